//! One request and its whole answer, on a netlink socket of its own. Blocks; an answer that ends early is an error.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN,
    NetlinkBuffer, NetlinkMessage,
};
use rtnetlink::packet_route::RouteNetlinkMessage;

use super::NetlinkError;

/// The kernel answers within microseconds; longer than this it never will.
const PATIENCE_SECONDS: i64 = 5;
/// Listings that change while they are read are read again so often at most.
const READS: u32 = 8;
/// Before the second read; doubled before each one after it, to a quarter of a second in all.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The kernel fills at most 32 KiB at a time; a full buffer may have been too short.
const BUFFER: usize = 64 * 1024;
/// The only request on its socket.
const SEQUENCE: u32 = 1;

/// A message of an answer.
pub(super) struct Reply {
    /// `RTM_NEWLINK` and the like.
    pub(super) kind: u16,
    /// What follows the netlink header.
    pub(super) body: Vec<u8>,
}

/// Everything there is of a kind. `doing` is for errors: "list links".
pub(super) fn dump(doing: &'static str, request: &RouteNetlinkMessage) -> Result<Vec<Reply>, NetlinkError> {
    for read in 0..READS {
        let answer = Socket::open()?.ask(doing, request, NLM_F_DUMP)?;
        if !answer.interrupted {
            return Ok(answer.replies);
        }
        // Whatever changes so often may need a moment to be done.
        std::thread::sleep(FIRST_PAUSE * 2_u32.pow(read));
    }
    Err(NetlinkError::Interrupted { doing })
}

/// Something to be done, with `flags` besides those every request has.
pub(super) fn act(doing: &'static str, request: &RouteNetlinkMessage, flags: u16) -> Result<(), NetlinkError> {
    Socket::open()?.ask(doing, request, flags | NLM_F_ACK).map(drop)
}

/// A question with one answer.
pub(super) fn ask(doing: &'static str, request: &RouteNetlinkMessage) -> Result<Reply, NetlinkError> {
    let answer = Socket::open()?.ask(doing, request, 0)?;
    answer.replies.into_iter().next().ok_or_else(|| malformed(doing, "it is empty"))
}

pub(super) fn malformed(doing: &'static str, what: impl ToString) -> NetlinkError {
    NetlinkError::Malformed { doing, what: what.to_string() }
}

struct Answer {
    replies: Vec<Reply>,
    /// What was listed changed meanwhile, so that the list may lack something.
    interrupted: bool,
}

pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn open() -> Result<Self, NetlinkError> {
        let failed = |errno: nix::Error| NetlinkError::Socket { doing: "open", source: errno.into() };
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)
            .map_err(failed)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS)).map_err(failed)?;
        Ok(Self(fd))
    }

    fn ask(&self, doing: &'static str, request: &RouteNetlinkMessage, flags: u16) -> Result<Answer, NetlinkError> {
        let mut message = NetlinkMessage::from(request.clone());
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = SEQUENCE;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.0.as_raw_fd(), &bytes, &kernel, MsgFlags::empty())
            .map_err(|errno| NetlinkError::Socket { doing: "write to", source: errno.into() })?;
        let until = match () {
            () if flags & NLM_F_DUMP == NLM_F_DUMP => Until::Done,
            () if flags & NLM_F_ACK != 0 => Until::Acknowledged,
            () => Until::First,
        };
        self.answer(doing, until)
    }

    fn answer(&self, doing: &'static str, until: Until) -> Result<Answer, NetlinkError> {
        let mut answer = Answer { replies: Vec::new(), interrupted: false };
        let mut buffer = vec![0; BUFFER];
        loop {
            let (length, from) = match recvfrom::<NetlinkAddr>(self.0.as_raw_fd(), &mut buffer) {
                Ok(received) => received,
                Err(nix::Error::EINTR) => continue,
                Err(nix::Error::EAGAIN) => return Err(NetlinkError::Timeout { doing }),
                Err(errno) => return Err(NetlinkError::Socket { doing: "read from", source: errno.into() }),
            };
            // Any process may write to the socket; the kernel is port 0.
            if from.is_none_or(|from| from.pid() != 0) {
                continue;
            }
            let datagram = buffer.get(..length).filter(|datagram| datagram.len() < BUFFER);
            let datagram = datagram.ok_or_else(|| malformed(doing, "it is too long"))?;
            if answer.take(doing, datagram, until)? {
                return Ok(answer);
            }
        }
    }
}

/// What ends an answer.
#[derive(Clone, Copy, PartialEq)]
enum Until {
    Done,
    Acknowledged,
    First,
}

impl Answer {
    /// Adds the messages of a datagram; whether the answer is complete.
    fn take(&mut self, doing: &'static str, datagram: &[u8], until: Until) -> Result<bool, NetlinkError> {
        let mut rest = datagram;
        while !rest.is_empty() {
            let message = NetlinkBuffer::new_checked(rest).map_err(|e| malformed(doing, e))?;
            let length = usize::try_from(message.length()).unwrap_or(usize::MAX);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            if message.sequence_number() != SEQUENCE {
                continue;
            }
            self.interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
            let payload = message.payload();
            match message.message_type() {
                NLMSG_NOOP => {}
                NLMSG_OVERRUN => return Err(malformed(doing, "part of it was lost")),
                NLMSG_ERROR | NLMSG_DONE => {
                    let code = payload.first_chunk().map(|code| i32::from_ne_bytes(*code));
                    let code = code.or((message.message_type() == NLMSG_DONE).then_some(0));
                    return match code.ok_or_else(|| malformed(doing, "an error without a number"))? {
                        0 => Ok(true),
                        code => {
                            let source = io::Error::from_raw_os_error(code.saturating_neg());
                            Err(NetlinkError::Refused { doing, source })
                        }
                    };
                }
                kind => {
                    self.replies.push(Reply { kind, body: payload.to_vec() });
                    if until == Until::First {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
