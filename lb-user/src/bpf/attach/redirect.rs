//! Whether the other end of a veth takes redirected frames.
//!
//! It does when it has an XDP program of its own or GRO switched on; otherwise every redirected frame is lost without
//! a word, so one frame that nobody listens to is sent first.

use std::fs;
use std::time::Duration;

use aya::programs::{ProgramError, TestRun as _, TestRunAttrs, TestRunOptions, Xdp};

use super::{Device, chain};
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

/// Packets sent through an interface, as this thread's network namespace counts them.
fn sent(interface: &str) -> Result<u64, String> {
    const FILE: &str = "/proc/thread-self/net/dev";
    let text = fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
    sent_in(&text, interface).ok_or_else(|| format!("{FILE} has no line for {interface}"))
}

fn sent_in(text: &str, interface: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    // Eight columns of what was received, then bytes and packets of what was sent.
    line.split_whitespace().nth(9)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_sent() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n\
            eth01: 1 2 0 0 0 0 0 0 30 40 0 0 0 0 0 0\n  eth0: 11 12 0 0 0 0 0 0 130 140 0 0 0 0 0 0\n";
        assert_eq!(sent_in(text, "eth0"), Some(140));
        assert_eq!(sent_in(text, "eth"), None);
    }
}
