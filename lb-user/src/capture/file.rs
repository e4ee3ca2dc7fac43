//! The capture file: pcapng (draft-ietf-opsawg-pcapng), which keeps with each packet where it was seen and why it ended as it
//! did. Three kinds of blocks are all there is to it, so they are written here.

use std::io::{self, Write};

use super::pair::{Seen, Shown, place_label};

/// Section Header Block.
const SECTION: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Interface Description Block.
const INTERFACE: u32 = 1;
/// Enhanced Packet Block.
const PACKET: u32 = 6;
const ETHERNET: u16 = 1;

// Options.
const END: u16 = 0;
const COMMENT: u16 = 1;
const APPLICATION: u16 = 4;
const NAME: u16 = 2;
const RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;

/// Places at which packets are seen, and ways.
const PLACES: u32 = 4;

/// A capture file that is being written.
#[derive(Debug)]
pub(super) struct CaptureFile<W> {
    out: W,
    /// What to add to the kernel's monotonic clock for nanoseconds since the Unix epoch.
    epoch: u64,
}

impl<W: Write> CaptureFile<W> {
    /// Begins a file, with one interface for each place and way.
    pub(super) fn begin(mut out: W, interface: &str, bytes: u32, epoch: u64) -> io::Result<Self> {
        let mut section = Vec::new();
        section.extend(BYTE_ORDER.to_ne_bytes());
        section.extend(1u16.to_ne_bytes());
        section.extend(0u16.to_ne_bytes());
        // How long the section is is not known yet.
        section.extend(u64::MAX.to_ne_bytes());
        option(&mut section, APPLICATION, concat!("xvip ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(&mut section, END, &[]);
        block(&mut out, SECTION, &section)?;
        for number in 0..2 * PLACES {
            let mut description = Vec::new();
            description.extend(ETHERNET.to_ne_bytes());
            description.extend(0u16.to_ne_bytes());
            description.extend(bytes.to_ne_bytes());
            let way = if number % 2 == 0 { "enters" } else { "left" };
            let name = format!("{interface} {} {way}", place_label(number / 2));
            option(&mut description, NAME, name.as_bytes());
            // Nanoseconds.
            option(&mut description, RESOLUTION, &[9]);
            option(&mut description, END, &[]);
            block(&mut out, INTERFACE, &description)?;
        }
        Ok(Self { out, epoch })
    }

    /// Writes a packet as it entered and, where it went on, as it left.
    pub(super) fn write(&mut self, seen: &Seen) -> io::Result<()> {
        let comment = seen.outcome();
        for shown in seen.entered.as_ref().into_iter().chain(seen.result()) {
            self.packet(shown, &comment)?;
        }
        Ok(())
    }

    fn packet(&mut self, shown: &Shown, comment: &str) -> io::Result<()> {
        let Shown { about, frame } = shown;
        let at = about.at.wrapping_add(self.epoch);
        let leaves = about.leaves.min(1);
        let mut packet = Vec::with_capacity(frame.len() + 96);
        for word in [
            2 * about.place.min(PLACES - 1) + leaves,
            (at >> 32) as u32,
            at as u32,
            frame.len() as u32,
            about.length.max(frame.len() as u32),
        ] {
            packet.extend(word.to_ne_bytes());
        }
        packet.extend(frame);
        pad(&mut packet);
        option(&mut packet, COMMENT, comment.as_bytes());
        // Inbound is 1, outbound 2.
        option(&mut packet, FLAGS, &(1 + leaves).to_ne_bytes());
        option(&mut packet, END, &[]);
        block(&mut self.out, PACKET, &packet)
    }

    /// Sees to it that readers have what was written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = (body.len() as u32 + 12).to_ne_bytes();
    out.write_all(&kind.to_ne_bytes())?;
    out.write_all(&length)?;
    out.write_all(body)?;
    out.write_all(&length)
}

fn option(to: &mut Vec<u8>, code: u16, value: &[u8]) {
    to.extend(code.to_ne_bytes());
    to.extend((value.len() as u16).to_ne_bytes());
    to.extend(value);
    pad(to);
}

fn pad(to: &mut Vec<u8>) {
    to.resize(to.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use lb_ebpf::abi::Reason;

    use super::super::pair::tests::shown;
    use super::*;

    /// The blocks of a file: kind and body.
    fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let word = |at: &[u8]| u32::from_ne_bytes(*at.first_chunk().unwrap());
        let mut found = Vec::new();
        while !file.is_empty() {
            let length = word(&file[4..]) as usize;
            assert!(length.is_multiple_of(4) && word(&file[length - 4..]) as usize == length);
            found.push((word(file), file[8..length - 4].to_vec()));
            file = &file[length..];
        }
        found
    }

    #[test]
    fn blocks_are_as_readers_want_them() {
        let mut bytes = Vec::new();
        let mut file = CaptureFile::begin(&mut bytes, "eth0", 1500, 1_700_000_000_000_000_000).unwrap();
        let (entered, left) = (shown(0, u32::MAX, &[1; 61]), shown(1, Reason::ToBackend as u32, &[2; 61]));
        file.write(&Seen { entered: Some(entered), left: Some(left) }).unwrap();
        // A packet that goes nowhere is there once.
        let (entered, left) = (shown(0, u32::MAX, &[3; 60]), shown(1, Reason::IpChecksum as u32, &[3; 60]));
        file.write(&Seen { entered: Some(entered), left: Some(left) }).unwrap();
        file.flush().unwrap();

        let blocks = blocks(&bytes);
        let kinds: Vec<_> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [[SECTION].as_slice(), &[INTERFACE; 8], &[PACKET; 3]].concat());
        let (_, packet) = &blocks[10];
        let words: Vec<_> = packet[..20].chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect();
        let at = 1_700_000_000_000_000_007_u64;
        assert_eq!(words, [3, (at >> 32) as u32, at as u32, 61, 61]);
        assert_eq!(packet[20..84], [[2; 61].as_slice(), &[0; 3]].concat());
        let comment = b"forward to_backend";
        assert!(packet.windows(comment.len()).any(|window| window == comment), "{packet:?}");
    }
}
