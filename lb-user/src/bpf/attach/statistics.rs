//! What a driver counts of its device.

use std::io;

use crate::ethtool::{self, Buffer};

const STATISTICS: u32 = 0x1d;
/// `ETH_SS_STATS`
const SET_OF_STATISTICS: u32 = 1;
/// Room for counters that appear between two questions: the kernel does not ask how many fit.
const SPARE: usize = 4096;

/// Every counter of a device in the current network namespace, by name.
pub(super) fn of(device: &str) -> io::Result<Vec<(String, u64)>> {
    let count = ethtool::driver(device)?.counters;
    let names = ethtool::names(device, SET_OF_STATISTICS, count)?;
    // Command, length, then a counter of 64 bits for each.
    let mut values = Buffer::new(8 + (count + SPARE) * 8);
    [STATISTICS, count as u32].into_iter().enumerate().for_each(|(at, word)| values.put(at * 4, word));
    values.ask(device)?;
    Ok(names.into_iter().enumerate().map(|(at, name)| (name, values.long(8 + at * 8))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        assert!(of("no-such-device").is_err());
    }
}
