//! What feeds programs with packets.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use xvip_tests::bpf;

use super::programs::{self, Cursor, FED};

/// Bytes of a frame; what is behind the headers is left as the last program left it.
const FRAME: [u8; 74] = [0; 74];

/// Prepared headers, and the program that writes one after the other into a frame for the program under test.
pub(super) struct Feeder {
    program: OwnedFd,
    headers: OwnedFd,
    cursor: OwnedFd,
    under_test: OwnedFd,
}

/// Which of the headers, and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Feed {
    /// The first of them.
    pub(super) first: u32,
    /// How many take turns.
    pub(super) count: u32,
    /// How many packets.
    pub(super) runs: u32,
}

impl Feeder {
    /// With room for so many headers.
    pub(super) fn new(room: u32) -> Result<Feeder> {
        let headers = bpf::create_map(bpf::ARRAY, FED, room)?;
        let cursor = bpf::create_map(bpf::ARRAY, size_of::<Cursor>(), 1)?;
        let under_test = bpf::create_map(bpf::PROGRAM_ARRAY, size_of::<u32>(), 1)?;
        let code = programs::feed(cursor.as_raw_fd(), headers.as_raw_fd(), under_test.as_raw_fd());
        Ok(Feeder { program: bpf::load(bpf::XDP, "feed", &code)?, headers, cursor, under_test })
    }

    /// Prepares the headers of a frame.
    pub(super) fn put(&self, place: u32, frame: &[u8]) -> Result<()> {
        let header = frame.first_chunk::<FED>().context("the frame is shorter than its headers")?;
        bpf::update_map(self.headers.as_fd(), place, header)
    }

    /// Runs a program on packets; the mean nanoseconds of one, feeding included. Where `action` is given, the last has to end
    /// with it.
    pub(super) fn run(&self, program: BorrowedFd<'_>, action: Option<i32>, feed: Feed) -> Result<f64> {
        let cursor = Cursor { next: feed.first, first: feed.first, end: feed.first + feed.count };
        bpf::update_map(self.cursor.as_fd(), 0, &cursor)?;
        bpf::update_map(self.under_test.as_fd(), 0, &program.as_raw_fd())?;
        let ran = bpf::run(self.program.as_fd(), &FRAME, feed.runs)?;
        let is_wanted = action.is_none_or(|action| ran.action == action as u32);
        ensure!(is_wanted, "a program ended with action {}, not {action:?}", ran.action);
        Ok(f64::from(ran.nanoseconds))
    }
}
