//! Whether the other end of a veth takes redirected frames.
//!
//! It does when it has an XDP program of its own or GRO switched on; otherwise every redirected frame is lost without
//! a word, so one frame that nobody listens to is sent first.

use std::time::Duration;

use aya::programs::{ProgramError, TestRun as _, TestRunAttrs, TestRunOptions, Xdp};

use super::{Device, chain, statistics};
use crate::clock;

/// The program that sends the frame.
pub(super) const PROGRAM: &str = "xvip_probe";

/// How long the frame may take to be counted.
const PATIENCE: Duration = Duration::from_millis(500);

/// An Ethernet frame from nobody to nobody, of an EtherType for experiments (IEEE 802).
const FRAME: [u8; 60] = {
    let mut frame = [0; 60];
    (frame[0], frame[6]) = (2, 2);
    (frame[12], frame[13]) = (0x88, 0xb5);
    frame
};

/// Sends a frame and looks whether it counts as sent.
pub(super) fn probe(program: &Xdp, device: &Device) -> Result<(), String> {
    let before = sent(&device.name)?;
    let options = TestRunOptions {
        data_in: Some(&FRAME),
        attrs: TestRunAttrs::new().xdp_live_frames(1),
        ..TestRunOptions::new()
    };
    program.test_run(options).map_err(|error: ProgramError| format!("cannot try it out: {}", chain(&error)))?;
    let deadline = clock::now() + PATIENCE;
    while clock::now() < deadline {
        if sent(&device.name)? > before {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err("the other end of this veth loses what XDP sends; run `ethtool -K PEER gro on` there".to_owned())
}

/// Frames that the other end has taken from XDP. All the device sends would not do: a host is not silent meanwhile.
fn sent(interface: &str) -> Result<u64, String> {
    let counters =
        statistics::of(interface).map_err(|error| format!("cannot read the counters of {interface}: {error}"))?;
    taken(&counters).ok_or_else(|| format!("{interface} does not count what XDP sends"))
}

/// The sum over all queues, if there are any.
fn taken(counters: &[(String, u64)]) -> Option<u64> {
    let of_queues = counters.iter().filter(|(name, _)| name.starts_with("tx_queue_") && name.ends_with("_xdp_xmit"));
    of_queues.map(|(_, count)| *count).reduce(u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_xdp_sent_counts() {
        let counters = [
            ("peer_ifindex", 5),
            ("rx_queue_0_xdp_tx", 7),
            ("tx_queue_0_xdp_xmit", 40),
            ("tx_queue_0_xdp_xmit_errors", 1000),
            ("tx_queue_1_xdp_xmit", 2),
        ];
        let counters = counters.map(|(name, count)| (name.to_owned(), count));
        assert_eq!(taken(&counters), Some(42));
        assert_eq!(taken(&counters[..2]), None);
    }
}
