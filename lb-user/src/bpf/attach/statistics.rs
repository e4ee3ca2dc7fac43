//! What a driver counts of its device, asked by ethtool's ioctl (linux/ethtool.h, linux/sockios.h).

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const DRIVER_INFO: u32 = 0x03;
const STRINGS: u32 = 0x1b;
const STATISTICS: u32 = 0x1d;
/// `ETH_SS_STATS`
const SET_OF_STATISTICS: u32 = 1;
/// Length of `struct ethtool_drvinfo`, and where it says how many counters there are.
const DRIVER_INFO_LENGTH: usize = 196;
const DRIVER_INFO_COUNT: usize = 180;
const NAME_LENGTH: usize = 32;
/// Room for counters that appear between two questions: the kernel does not ask how many fit.
const SPARE: usize = 4096;

/// Every counter of a device in the current network namespace, by name.
pub(super) fn of(device: &str) -> io::Result<Vec<(String, u64)>> {
    let mut info = Buffer::new(DRIVER_INFO_LENGTH);
    info.put(0, DRIVER_INFO);
    info.ask(device)?;
    let count = info.word(DRIVER_INFO_COUNT) as usize;

    // Command, set, length, then a name of fixed length for each.
    let mut names = Buffer::new(12 + (count + SPARE) * NAME_LENGTH);
    [STRINGS, SET_OF_STATISTICS, count as u32].into_iter().enumerate().for_each(|(at, word)| names.put(at * 4, word));
    names.ask(device)?;
    // Command, length, then a counter of 64 bits for each.
    let mut values = Buffer::new(8 + (count + SPARE) * 8);
    [STATISTICS, count as u32].into_iter().enumerate().for_each(|(at, word)| values.put(at * 4, word));
    values.ask(device)?;
    Ok((0..count).map(|at| (names.text(12 + at * NAME_LENGTH), values.long(8 + at * 8))).collect())
}

/// A question to the kernel, and its answer in the same place.
struct Buffer(Vec<u64>);

impl Buffer {
    fn new(bytes: usize) -> Self {
        Self(vec![0; bytes.div_ceil(8)])
    }

    fn bytes(&self) -> impl Iterator<Item = u8> {
        self.0.iter().flat_map(|word| word.to_ne_bytes())
    }

    fn put(&mut self, at: usize, word: u32) {
        let half = at % 8;
        if let Some(long) = self.0.get_mut(at / 8) {
            let mut bytes = long.to_ne_bytes();
            bytes.iter_mut().skip(half).zip(word.to_ne_bytes()).for_each(|(to, from)| *to = from);
            *long = u64::from_ne_bytes(bytes);
        }
    }

    fn word(&self, at: usize) -> u32 {
        let mut word = [0; 4];
        self.bytes().skip(at).zip(&mut word).for_each(|(from, to)| *to = from);
        u32::from_ne_bytes(word)
    }

    /// `at` is a multiple of 8.
    fn long(&self, at: usize) -> u64 {
        self.0.get(at / 8).copied().unwrap_or_default()
    }

    fn text(&self, at: usize) -> String {
        let name: Vec<u8> = self.bytes().skip(at).take(NAME_LENGTH).take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&name).into_owned()
    }

    fn ask(&mut self, device: &str) -> io::Result<()> {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        // SAFETY: all-zero bytes are a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let room = request.ifr_name.len() - 1;
        for (to, from) in request.ifr_name.iter_mut().take(room).zip(device.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = self.0.as_mut_ptr().cast();
        // SAFETY: the request points at the buffer, which outlives the call; it is as long as the answer to the command in it, with
        // room to spare where the kernel decides on the length.
        let asked = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if asked < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_longs_and_texts_have_their_places() {
        let mut buffer = Buffer::new(44);
        buffer.put(0, 1);
        buffer.put(4, 2);
        buffer.put(36, u32::from_ne_bytes(*b"name"));
        assert_eq!((buffer.word(0), buffer.word(4), buffer.word(36)), (1, 2, u32::from_ne_bytes(*b"name")));
        assert_eq!(buffer.text(36), "name");
        assert_eq!(buffer.long(8), 0);
        assert_eq!(buffer.long(800), 0);
        buffer.put(800, 1);
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        assert!(of("no-such-device").is_err());
    }
}
