//! What a driver says of its device's queues and offloads.

use std::io;

use crate::doctor::facts::Offloads;
use crate::ethtool::Buffer;

// linux/ethtool.h
const RX_CHECKSUM: u32 = 0x14;
const TX_CHECKSUM: u32 = 0x16;
const TSO: u32 = 0x1e;
const GRO: u32 = 0x2b;
const CHANNELS: u32 = 0x3c;

/// Queues that receive, alone or combined with sending.
pub(super) fn receive_queues(device: &str) -> io::Result<u32> {
    // struct ethtool_channels: command; most that receive, send, other, combined; the same four in use.
    let channels = asked(device, CHANNELS, 36)?;
    let (receive, combined) = (channels.word(20), channels.word(32));
    Ok(receive.saturating_add(combined))
}

/// Offloads in force; `lro` is known already.
pub(super) fn offloads(device: &str, lro: bool) -> io::Result<Offloads> {
    // struct ethtool_value: command, value.
    let value = |command| asked(device, command, 8).map(|answer| answer.word(4));
    Ok(Offloads {
        rx_checksum: value(RX_CHECKSUM)? != 0,
        tx_checksum: value(TX_CHECKSUM)? != 0,
        tso: value(TSO)? != 0,
        gro: value(GRO)? != 0,
        lro,
    })
}

/// The answer to a command, which is as long as the command's structure.
fn asked(device: &str, command: u32, bytes: usize) -> io::Result<Buffer> {
    let mut question = Buffer::new(bytes);
    question.put(0, command);
    question.ask(device)?;
    Ok(question)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        assert_eq!(offloads("no-such-device", false).err().and_then(|error| error.raw_os_error()), Some(libc::ENODEV));
        assert!(receive_queues("no-such-device").is_err());
    }

    #[test]
    fn the_loopback_has_offloads() {
        assert!(offloads("lo", false).unwrap().tso);
    }
}
