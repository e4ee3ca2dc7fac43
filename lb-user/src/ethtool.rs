//! Questions about a device by ethtool's ioctl (linux/ethtool.h, linux/sockios.h).

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const DRIVER_INFO: u32 = 0x03;
const STRINGS: u32 = 0x1b;
const SET_LENGTHS: u32 = 0x37;
const FEATURES: u32 = 0x3a;
/// `ETH_SS_FEATURES`
const SET_OF_FEATURES: u32 = 4;
/// Length of `struct ethtool_drvinfo`, and where it names the driver and counts its counters.
const DRIVER_INFO_LENGTH: usize = 196;
const DRIVER_INFO_NAME: usize = 4;
const DRIVER_INFO_COUNT: usize = 180;
const NAME_LENGTH: usize = 32;
/// Room for names that appear between two questions: the kernel does not ask how many fit.
const SPARE: usize = 4096;

/// What a device says of its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Driver {
    /// Its name.
    pub(crate) name: String,
    /// How many counters it has.
    pub(crate) counters: usize,
}

/// The driver of a device in the current network namespace.
pub(crate) fn driver(device: &str) -> io::Result<Driver> {
    let mut info = Buffer::new(DRIVER_INFO_LENGTH);
    info.put(0, DRIVER_INFO);
    info.ask(device)?;
    Ok(Driver { name: info.text(DRIVER_INFO_NAME), counters: info.word(DRIVER_INFO_COUNT) as usize })
}

/// The names in a set of a device, of which `count` are wanted.
pub(crate) fn names(device: &str, set: u32, count: usize) -> io::Result<Vec<String>> {
    // Command, set, length, then a name of fixed length for each.
    let mut names = Buffer::new(12 + (count + SPARE) * NAME_LENGTH);
    [STRINGS, set, count as u32].into_iter().enumerate().for_each(|(at, word)| names.put(at * 4, word));
    names.ask(device)?;
    Ok((0..count).map(|at| names.text(12 + at * NAME_LENGTH)).collect())
}

/// The features that are switched on, by their names.
pub(crate) fn features(device: &str) -> io::Result<Vec<String>> {
    // Command, padding, a mask of sets, then a length for each.
    let mut lengths = Buffer::new(20);
    lengths.put(0, SET_LENGTHS);
    lengths.put(8, 1 << SET_OF_FEATURES);
    lengths.ask(device)?;
    let count = lengths.word(16) as usize;
    let names = names(device, SET_OF_FEATURES, count)?;
    // Command, length, then for each 32 features which are available, requested, on, and for ever as they are.
    let blocks = count.div_ceil(32);
    let mut features = Buffer::new(8 + blocks * 16);
    features.put(0, FEATURES);
    features.put(4, blocks as u32);
    features.ask(device)?;
    let is_on = |at: usize| features.word(8 + at / 32 * 16 + 8) & 1 << (at % 32) != 0;
    Ok(names.into_iter().enumerate().filter(|(at, _)| is_on(*at)).map(|(_, name)| name).collect())
}

/// A question to the kernel, and its answer in the same place.
pub(crate) struct Buffer(Vec<u64>);

impl Buffer {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(vec![0; bytes.div_ceil(8)])
    }

    fn bytes(&self) -> impl Iterator<Item = u8> {
        self.0.iter().flat_map(|word| word.to_ne_bytes())
    }

    pub(crate) fn put(&mut self, at: usize, word: u32) {
        let half = at % 8;
        if let Some(long) = self.0.get_mut(at / 8) {
            let mut bytes = long.to_ne_bytes();
            bytes.iter_mut().skip(half).zip(word.to_ne_bytes()).for_each(|(to, from)| *to = from);
            *long = u64::from_ne_bytes(bytes);
        }
    }

    pub(crate) fn word(&self, at: usize) -> u32 {
        let mut word = [0; 4];
        self.bytes().skip(at).zip(&mut word).for_each(|(from, to)| *to = from);
        u32::from_ne_bytes(word)
    }

    /// `at` is a multiple of 8.
    pub(crate) fn long(&self, at: usize) -> u64 {
        self.0.get(at / 8).copied().unwrap_or_default()
    }

    fn text(&self, at: usize) -> String {
        let name: Vec<u8> = self.bytes().skip(at).take(NAME_LENGTH).take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&name).into_owned()
    }

    pub(crate) fn ask(&mut self, device: &str) -> io::Result<()> {
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
        assert!(driver("no-such-device").is_err());
        assert!(features("no-such-device").is_err());
    }

    #[test]
    fn the_loopback_has_features_and_no_driver_of_its_own() {
        assert!(features("lo").unwrap().iter().any(|name| name == "loopback"), "{:?}", features("lo"));
    }
}
