//! Asks an IPv6 address for echoes, again and again, and remembers when there was one.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::netns::Netns;

/// From one request to the next, at most.
const EVERY_MILLIS: i64 = 10;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
/// Two bytes that tell our requests from others'.
const IDENTIFIER: [u8; 2] = *b"xv";

/// Asks until it is dropped.
#[derive(Debug)]
pub struct Ping {
    answers: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Result<()>>>>,
}

impl Ping {
    /// Begins to ask for `address` from inside `netns`.
    pub fn start(netns: &Netns, address: Ipv6Addr) -> Result<Ping> {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (to, end) = (answers.clone(), stop.clone());
        let thread = netns.spawn("ping", move || ask(address, &to, &end))?;
        Ok(Ping { answers, stop, thread: Some(thread) })
    }

    /// How many echoes came so far.
    pub fn count(&self) -> usize {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The longest time without an echo between the first one and the last one so far.
    pub fn longest_silence(&self) -> Duration {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ask(address: Ipv6Addr, answers: &Mutex<Vec<Instant>>, end: &AtomicBool) -> Result<()> {
    let socket = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::IcmpV6)
        .context("opening a socket for echoes")?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(EVERY_MILLIS))?;
    let to = SockaddrIn6::from(SocketAddrV6::new(address, 0, 0, 0));
    let mut sequence = 0_u16;
    while !end.load(Ordering::Relaxed) {
        sequence = sequence.wrapping_add(1);
        let mut request = vec![ECHO_REQUEST, 0, 0, 0];
        request.extend(IDENTIFIER);
        request.extend(sequence.to_be_bytes());
        // Not sent is as good as not answered. The kernel adds the checksum.
        let _ = sendto(socket.as_raw_fd(), &request, &to, MsgFlags::empty());
        while let Some(answer) = receive(&socket)? {
            if answer[0] == ECHO_REPLY && answer[4..6] == IDENTIFIER {
                answers.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            }
        }
    }
    Ok(())
}

/// The next ICMPv6 message's first bytes; `None` when there was none in time.
fn receive(socket: &OwnedFd) -> Result<Option<[u8; 8]>> {
    let mut bytes = [0; 8];
    match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
        Ok(_) => Ok(Some(bytes)),
        Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(None),
        Err(errno) => Err(io::Error::from(errno)).context("receiving echoes"),
    }
}
