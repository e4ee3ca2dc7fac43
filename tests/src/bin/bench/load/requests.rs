//! Exchanges over connections that are kept.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::{ASK, DRAIN, Exchanges, LAST, Poll, REQUEST, RESPONSE, Share, Tally, Timetable};

/// How long connections may take to come about.
const LIMIT: Duration = Duration::from_secs(5);

/// A kept connection; when it is not asking, `since` is none.
struct Kept {
    stream: TcpStream,
    since: Option<Instant>,
    got: usize,
    server: u8,
}

pub(super) fn run(load: &Exchanges, share: Share) -> Result<Tally> {
    let mut poll = Poll::new()?;
    let mut tally = Tally::default();
    let mut kept = Vec::new();
    for number in 0..share.connections() {
        let stream =
            match TcpStream::connect_timeout(&load.target(number * share.threads + share.thread)?.into(), LIMIT) {
                Ok(stream) => stream,
                Err(error) => {
                    tally.failed(error);
                    continue;
                }
            };
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        poll.epoll.add(stream.as_fd(), EpollEvent::new(interest, kept.len() as u64))?;
        kept.push(Kept { stream, since: None, got: 0, server: 0 });
    }
    let mut timetable = load.rate.map(|rate| Timetable::new(rate, share, load.span.to, &poll)).transpose()?;
    let mut idle: VecDeque<usize> = (0..kept.len()).collect();
    let mut late: VecDeque<Instant> = VecDeque::new();
    loop {
        let now = Instant::now();
        let is_over = match &mut timetable {
            None => {
                // All of them at the start, later none: each asks again when it is answered.
                late.extend(idle.iter().map(|_| now));
                now >= load.span.to
            }
            Some(timetable) => {
                late.extend(std::iter::from_fn(|| timetable.due(now)));
                let is_quiet = timetable.is_over() && late.is_empty() && idle.len() == kept.len();
                is_quiet || now >= load.span.to + DRAIN
            }
        };
        if is_over {
            break;
        }
        while !late.is_empty()
            && let Some(at) = idle.pop_front()
        {
            let due = late.pop_front();
            if let Some(kept) = kept.get_mut(at)
                && let Err(error) = kept.ask(due)
            {
                tally.failed(error);
            }
        }
        for event in poll.wait()? {
            let at = event.data() as usize;
            let Some(one) = kept.get_mut(at) else { continue };
            match one.hear() {
                Ok(None) => {}
                Ok(Some((since, server))) => {
                    let now = Instant::now();
                    if load.span.has(if timetable.is_some() { since } else { now }) {
                        tally.done(now - since, server);
                    }
                    if timetable.is_some() {
                        idle.push_back(at);
                    } else if let Err(error) = one.ask(Some(now)) {
                        tally.failed(error);
                    }
                }
                // The connection is out of use from now on.
                Err(error) => tally.failed(error),
            }
        }
    }
    let unanswered = kept.iter().filter_map(|kept| kept.since).chain(late);
    let limit = if timetable.is_some() { Duration::ZERO } else { Duration::from_secs(1) };
    unanswered.filter(|since| since.elapsed() >= limit).for_each(|_| tally.failed("no answer"));
    Ok(tally)
}

impl Kept {
    fn ask(&mut self, since: Option<Instant>) -> std::io::Result<()> {
        self.since = since;
        self.got = 0;
        self.stream.write_all(&[ASK; REQUEST])
    }

    /// Since when it has waited, and for whom, when the answer is complete.
    fn hear(&mut self) -> std::io::Result<Option<(Instant, u8)>> {
        let mut answer = [0; 2 * RESPONSE];
        let count = match self.stream.read(&mut answer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        if self.got == 0 {
            self.server = answer[0];
        }
        self.got += count;
        if self.got < RESPONSE {
            return Ok(None);
        }
        if self.got > RESPONSE || answer.get(count - 1) != Some(&LAST) {
            return Err(ErrorKind::InvalidData.into());
        }
        Ok(self.since.take().map(|since| (since, self.server)))
    }
}
