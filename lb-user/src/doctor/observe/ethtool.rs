//! What a driver says of its device, asked by ethtool's ioctl (linux/ethtool.h, linux/sockios.h).

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::doctor::facts::Offloads;

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const DRIVER_INFO: u32 = 0x03;
const RX_CHECKSUM: u32 = 0x14;
const TX_CHECKSUM: u32 = 0x16;
const TSO: u32 = 0x1e;
const FLAGS: u32 = 0x25;
const GRO: u32 = 0x2b;
const STRINGS: u32 = 0x1b;
const SET_INFO: u32 = 0x37;
const FEATURES: u32 = 0x3a;
const CHANNELS: u32 = 0x3c;
/// `ETH_SS_FEATURES`
const SET_OF_FEATURES: u32 = 4;
/// `ETH_FLAG_LRO`
const FLAG_LRO: u32 = 1 << 15;
/// `ETH_GSTRING_LEN`
const NAME: usize = 32;
/// No kernel has more features than this, and they change only with the kernel.
const MOST_FEATURES: usize = 256;

/// The driver's name.
pub(super) fn driver(device: &str) -> io::Result<String> {
    // struct ethtool_drvinfo: command, then names of 32 bytes, the driver's first.
    let mut info = [0_u32; 49];
    ask(device, DRIVER_INFO, &mut info)?;
    Ok(text(info.get(1..9).unwrap_or_default()))
}

/// Queues that receive, alone or combined with sending.
pub(super) fn receive_queues(device: &str) -> io::Result<u32> {
    // struct ethtool_channels: command; most that receive, send, other, combined; the same four in use.
    let mut channels = [0_u32; 9];
    ask(device, CHANNELS, &mut channels)?;
    let [_, _, _, _, _, receive, _, _, combined] = channels;
    Ok(receive.saturating_add(combined))
}

/// Offloads in force.
pub(super) fn offloads(device: &str) -> io::Result<Offloads> {
    let value = |command| {
        let mut value = [0_u32; 2];
        ask(device, command, &mut value).map(|()| value[1])
    };
    Ok(Offloads {
        rx_checksum: value(RX_CHECKSUM)? != 0,
        tx_checksum: value(TX_CHECKSUM)? != 0,
        tso: value(TSO)? != 0,
        gro: value(GRO)? != 0,
        lro: value(FLAGS)? & FLAG_LRO != 0,
    })
}

/// Whether the device itself joins received segments in a way that can be undone (`rx-gro-hw`).
pub(super) fn joins_segments(device: &str) -> io::Result<bool> {
    // struct ethtool_sset_info: command, reserved, mask of 64 bits, one length for each bit of the mask.
    let mut info = [0_u32; 5];
    info[2..4].copy_from_slice(&halves(1 << SET_OF_FEATURES));
    ask(device, SET_INFO, &mut info)?;
    let count = (info[4] as usize).min(MOST_FEATURES);
    // struct ethtool_gstrings: command, set, length, names.
    let mut names = vec![0_u32; 3 + MOST_FEATURES * NAME / 4];
    names[1] = SET_OF_FEATURES;
    names[2] = count as u32;
    ask(device, STRINGS, &mut names)?;
    let name = |at: usize| names.get(3 + at * NAME / 4..).and_then(|rest| rest.get(..NAME / 4)).map(text);
    let Some(at) = (0..count).find(|at| name(*at).as_deref() == Some("rx-gro-hw")) else { return Ok(false) };
    // struct ethtool_gfeatures: command, blocks; for 32 features each: available, requested, active, never changed.
    let blocks = MOST_FEATURES / 32;
    let mut features = vec![0_u32; 2 + blocks * 4];
    features[1] = blocks as u32;
    ask(device, FEATURES, &mut features)?;
    let active = features.get(2 + at / 32 * 4 + 2).copied().unwrap_or_default();
    Ok(active & (1 << (at % 32)) != 0)
}

/// A word of 64 bits as the kernel lays it out.
fn halves(long: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = long.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

/// A name that ends with a zero byte or fills its place.
fn text(words: &[u32]) -> String {
    let bytes = words.iter().flat_map(|word| word.to_ne_bytes()).take_while(|byte| *byte != 0);
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
}

/// One question about a device of the current network namespace; the answer stands in the place of the question, which is as long
/// as the structure of the command.
fn ask(device: &str, command: u32, question: &mut [u32]) -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    if let Some(first) = question.first_mut() {
        *first = command;
    }
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = question.as_mut_ptr().cast();
    // SAFETY: the request points at the question, which outlives the call and has room for the whole answer to its command.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if asked < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        for result in [driver("no-such-device").err(), offloads("no-such-device").err()] {
            assert_eq!(result.and_then(|error| error.raw_os_error()), Some(libc::ENODEV));
        }
        assert!(receive_queues("no-such-device").is_err());
        assert!(joins_segments("no-such-device").is_err());
    }

    #[test]
    fn texts_end_where_they_end() {
        let word = |bytes| u32::from_ne_bytes(bytes);
        assert_eq!(text(&[word(*b"virt"), word(*b"io\0x")]), "virtio");
        assert_eq!(text(&[word(*b"full")]), "full");
        assert_eq!(halves(u64::from_ne_bytes(*b"abcdefgh")), [word(*b"abcd"), word(*b"efgh")]);
    }
}
