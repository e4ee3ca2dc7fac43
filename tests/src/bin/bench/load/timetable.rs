//! When each exchange is due.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::{Poll, Share};

/// The timer's number among sockets.
const TIMER: u64 = u64::MAX;

/// One thread's part of an even rate; its timer wakes the thread when something is due.
pub(super) struct Timetable {
    next: Instant,
    interval: Duration,
    end: Instant,
    _timer: TimerFd,
}

impl Timetable {
    /// From now until `end`, `rate` times a second for all threads together.
    pub(super) fn new(rate: f64, share: Share, end: Instant, poll: &Poll) -> Result<Timetable> {
        let interval = Duration::from_secs_f64(share.threads as f64 / rate);
        let first = interval.mul_f64((share.thread + 1) as f64 / share.threads as f64);
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        // Of an edge-triggered timer nothing has to be read.
        poll.epoll.add(timer.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, TIMER))?;
        // Looked at before the timer is set: so it never fires before something is due.
        let next = Instant::now() + first;
        timer.set(
            Expiration::IntervalDelayed(TimeSpec::from_duration(first), TimeSpec::from_duration(interval)),
            TimerSetTimeFlags::empty(),
        )?;
        Ok(Timetable { next, interval, end, _timer: timer })
    }

    /// The next that is due by `now`: when it was due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next;
        if due > now || due >= self.end {
            return None;
        }
        self.next += self.interval;
        Some(due)
    }

    /// Whether nothing more will be due.
    pub(super) fn is_over(&self) -> bool {
        self.next >= self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_is_due_from_when_it_was_due() {
        let poll = Poll::new().unwrap();
        let end = Instant::now() + Duration::from_millis(100);
        let mut table = Timetable::new(1000.0, Share { thread: 1, threads: 2 }, end, &poll).unwrap();
        let first = table.next;
        assert_eq!(table.due(first - Duration::from_micros(1)), None);
        let late = first + Duration::from_millis(5);
        let due: Vec<_> = std::iter::from_fn(|| table.due(late)).collect();
        assert_eq!(due, [first, first + Duration::from_millis(2), first + Duration::from_millis(4)]);
        assert!(!table.is_over());
        while table.due(end + Duration::from_secs(1)).is_some() {}
        assert!(table.is_over());
    }
}
