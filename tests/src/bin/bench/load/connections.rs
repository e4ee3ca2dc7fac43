//! Exchanges over a connection each, with or without TLS.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use rustls::ClientConnection;

use super::{ASK, DRAIN, Exchanges, LAST, Poll, REQUEST, RESPONSE, Share, Tally, Timetable, dial};

/// A connection under way.
struct Dialled {
    stream: TcpStream,
    since: Instant,
    tls: Option<Box<ClientConnection>>,
    is_asked: bool,
    got: usize,
    server: u8,
}

/// The connections of one thread, known by their places.
struct Dialler<'a> {
    load: &'a Exchanges,
    poll: Poll,
    places: Vec<Option<Dialled>>,
    free: Vec<usize>,
    /// How many were begun; also whose turn it is.
    begun: usize,
    tally: Tally,
}

pub(super) fn run(load: &Exchanges, share: Share) -> Result<Tally> {
    let poll = Poll::new()?;
    let mut timetable = load.rate.map(|rate| Timetable::new(rate, share, load.span.to, &poll)).transpose()?;
    let mut dialler =
        Dialler { load, poll, places: Vec::new(), free: Vec::new(), begun: share.thread, tally: Tally::default() };
    let is_paced = timetable.is_some();
    loop {
        let now = Instant::now();
        let is_over = match &mut timetable {
            None => now >= load.span.to,
            Some(timetable) => {
                while let Some(due) = timetable.due(now) {
                    dialler.begin(due)?;
                }
                (timetable.is_over() && dialler.active() == 0) || now >= load.span.to + DRAIN
            }
        };
        if is_over {
            break;
        }
        if !is_paced {
            // All of them at the start, later those that did not begin.
            for _ in dialler.active()..share.connections() {
                dialler.begin(Instant::now())?;
            }
        }
        let events: Vec<_> = dialler.poll.wait()?.to_vec();
        for event in events {
            if dialler.advance(event.data() as usize, event.events()) && !is_paced {
                dialler.begin(Instant::now())?;
            }
        }
    }
    let limit = if is_paced { Duration::ZERO } else { Duration::from_secs(1) };
    for dialled in dialler.places.iter().flatten().filter(|dialled| dialled.since.elapsed() >= limit) {
        dialler.tally.failed(if dialled.is_asked { "no answer" } else { "no connection" });
    }
    Ok(dialler.tally)
}

impl Dialler<'_> {
    fn active(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Begins a connection that counts from `since`; when that fails at once, it is counted.
    fn begin(&mut self, since: Instant) -> Result<()> {
        let target = self.load.target(self.begun)?;
        self.begun += 1;
        let stream = match dial(target) {
            Ok(stream) => stream,
            Err(error) => {
                self.tally.failed(error);
                return Ok(());
            }
        };
        let tls = match &self.load.tls {
            None => None,
            Some(config) => {
                let mut tls = ClientConnection::new(config.clone(), IpAddr::from(*target.ip()).into())?;
                tls.writer().write_all(&[ASK; REQUEST])?;
                Some(Box::new(tls))
            }
        };
        let place = self.free.pop().unwrap_or(self.places.len());
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        self.poll.epoll.add(stream.as_fd(), EpollEvent::new(interest, place as u64))?;
        let dialled = Some(Dialled { stream, since, tls, is_asked: false, got: 0, server: 0 });
        match self.places.get_mut(place) {
            Some(free) => *free = dialled,
            None => self.places.push(dialled),
        }
        Ok(())
    }

    /// Goes on with a connection; true when it has ended with an answer.
    fn advance(&mut self, place: usize, happened: EpollFlags) -> bool {
        let Some(Some(dialled)) = self.places.get_mut(place) else {
            return false;
        };
        let ended = match dialled.advance(happened) {
            Ok(false) => return false,
            Ok(true) => {
                let now = Instant::now();
                let counts = if self.load.rate.is_some() { dialled.since } else { now };
                if self.load.span.has(counts) {
                    self.tally.done(now - dialled.since, dialled.server);
                }
                true
            }
            Err(error) => {
                self.tally.failed(error);
                false
            }
        };
        if let Some(place) = self.places.get_mut(place) {
            *place = None;
        }
        self.free.push(place);
        ended
    }
}

impl Dialled {
    /// True when the answer is complete.
    fn advance(&mut self, happened: EpollFlags) -> std::io::Result<bool> {
        let Self { stream, tls, is_asked, got, server, .. } = self;
        if let Some(tls) = tls {
            return secretly(stream, tls, is_asked, got, server);
        }
        if !*is_asked {
            match stream.write(&[ASK; REQUEST]) {
                Ok(REQUEST) => *is_asked = true,
                Ok(_) => return Err(ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        let readable = EpollFlags::EPOLLIN | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        if !happened.intersects(readable) {
            return Ok(false);
        }
        let mut answer = [0; 2 * RESPONSE];
        match stream.read(&mut answer) {
            Ok(count) => heard(answer.get(..count).unwrap_or_default(), got, server),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Takes note of a part of an answer; true when it is complete.
fn heard(part: &[u8], got: &mut usize, server: &mut u8) -> std::io::Result<bool> {
    let (Some(first), Some(last)) = (part.first(), part.last()) else {
        return Err(ErrorKind::UnexpectedEof.into());
    };
    if *got == 0 {
        *server = *first;
    }
    *got += part.len();
    if *got < RESPONSE {
        return Ok(false);
    }
    if *got > RESPONSE || *last != LAST { Err(ErrorKind::InvalidData.into()) } else { Ok(true) }
}

/// The same by TLS, whose records go both ways before there is an answer.
fn secretly(
    stream: &mut TcpStream, tls: &mut ClientConnection, is_asked: &mut bool, got: &mut usize, server: &mut u8,
) -> std::io::Result<bool> {
    loop {
        let mut is_blocked = true;
        while tls.wants_write() {
            match tls.write_tls(stream) {
                Ok(_) => is_blocked = false,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        match tls.read_tls(stream) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {
                is_blocked = false;
                tls.process_new_packets().map_err(std::io::Error::other)?;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        *is_asked = !tls.is_handshaking();
        let mut answer = [0; 2 * RESPONSE];
        match tls.reader().read(&mut answer) {
            Ok(count) => {
                if heard(answer.get(..count).unwrap_or_default(), got, server)? {
                    tls.send_close_notify();
                    // Nobody waits for it.
                    let _ = tls.write_tls(stream);
                    return Ok(true);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if is_blocked {
            return Ok(false);
        }
    }
}
