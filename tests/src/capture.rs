//! Whole Ethernet frames on one interface of a namespace: heard, sent, and kept as a file that other programs read.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{SockFlag, setsockopt, sockopt};
use xvip::sock::frame::{FrameSocket, hear};

use crate::netns::Netns;

const LONGEST: usize = 65_536;
/// Room for frames that arrive while nobody reads.
const BUFFER: usize = 16 << 20;

/// A frame that passed an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// It left by the interface instead of entering by it.
    pub outgoing: bool,
    /// Time since the Unix epoch.
    pub at: Duration,
    /// From the Ethernet header on, a VLAN tag included that the kernel tells of apart.
    pub frame: Vec<u8>,
}

/// Listens on one interface until it is dropped. What enters is heard where the host's own stack hears it: behind XDP.
#[derive(Debug)]
pub struct Capture {
    heard: Arc<Mutex<Vec<Heard>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Capture {
    /// Listens from now on; frames that pass after the return are not missed.
    pub fn start(netns: &Netns, device: &str) -> Result<Capture> {
        let socket = netns.enter(|| packet_socket(device))??;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (to, end) = (heard.clone(), stop.clone());
        let thread =
            std::thread::Builder::new().name("capture".to_owned()).spawn(move || listen(&socket, &to, &end))?;
        Ok(Capture { heard, stop, thread: Some(thread) })
    }

    /// All frames so far, in their order.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The frames so far that entered, or that left.
    pub fn frames(&self, outgoing: bool) -> Vec<Vec<u8>> {
        self.heard().into_iter().filter(|heard| heard.outgoing == outgoing).map(|heard| heard.frame).collect()
    }

    /// Writes what was heard as a pcap file.
    pub fn save(&self, to: &Path) -> Result<()> {
        let mut bytes = Vec::new();
        // Magic for microseconds, version 2.4, no offset, no accuracy, longest frame, Ethernet.
        for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, LONGEST as u32, 1] {
            bytes.extend(u32::to_le_bytes(word));
        }
        for heard in self.heard() {
            let length = heard.frame.len() as u32;
            for word in [heard.at.as_secs() as u32, heard.at.subsec_micros(), length, length] {
                bytes.extend(word.to_le_bytes());
            }
            bytes.extend(heard.frame);
        }
        std::fs::write(to, bytes).with_context(|| format!("writing {}", to.display()))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends whole frames out of one interface.
#[derive(Debug)]
pub struct Sender {
    socket: FrameSocket,
    index: u32,
}

impl Sender {
    /// Ready to send.
    pub fn open(netns: &Netns, device: &str) -> Result<Sender> {
        let opened = netns.enter(|| -> Result<_> { Ok((FrameSocket::open()?, if_nametoindex(device)?)) })?;
        let (socket, index) = opened.with_context(|| format!("finding {device}"))?;
        Ok(Sender { socket, index })
    }

    /// Sends one frame, from its Ethernet header on.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.socket.send(self.index, frame).with_context(|| format!("sending a frame of {} bytes", frame.len()))
    }
}

/// A packet socket for all protocols, bound to one interface of the current namespace.
fn packet_socket(device: &str) -> Result<OwnedFd> {
    let index = if_nametoindex(device).with_context(|| format!("finding {device}"))?;
    let all = libc::ETH_P_ALL as u16;
    let socket = hear(index, all, SockFlag::empty()).with_context(|| format!("listening on {device}"))?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
    tell_tags(&socket).context("asking for VLAN tags")?;
    Ok(socket)
}

/// Lets the kernel tell of the VLAN tags that it takes out of frames.
fn tell_tags(socket: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer is to a live value of the length given, and the kernel only reads it.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_AUXDATA,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn listen(socket: &OwnedFd, heard: &Mutex<Vec<Heard>>, end: &AtomicBool) -> Result<()> {
    let mut buffer = vec![0; LONGEST];
    while !end.load(Ordering::Relaxed) {
        let Some((frame, outgoing)) = receive(socket, &mut buffer)? else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        heard.lock().unwrap_or_else(PoisonError::into_inner).push(Heard { outgoing, at, frame });
    }
    Ok(())
}

/// Room for what the kernel tells of a frame; its elements are aligned so.
type Told = [u64; 16];

/// The next frame and its direction, if there is one.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<Option<(Vec<u8>, bool)>> {
    // SAFETY: all-zero bytes are a valid sockaddr_ll; so below for a msghdr.
    let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut told: Told = [0; 16];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: see above.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = told.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Told>();
    // SAFETY: all pointers in the message are to live values of the lengths given, which the kernel does not exceed.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    match usize::try_from(received) {
        Ok(received) => {
            let mut frame = buffer.get(..received).unwrap_or(buffer).to_vec();
            if let Some(tag) = tag(&message).filter(|_| frame.len() >= MACS) {
                frame.splice(MACS..MACS, tag);
            }
            Ok(Some((frame, from.sll_pkttype == libc::PACKET_OUTGOING)))
        }
        Err(_) => match io::Error::last_os_error() {
            err if matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            // The link went down; it may come back.
            err if err.raw_os_error() == Some(libc::ENETDOWN) => Ok(None),
            err => Err(err).context("listening"),
        },
    }
}

/// Where the EtherType is: behind both addresses.
const MACS: usize = 12;

/// The VLAN tag that belongs into a frame, as the kernel tells of it (Documentation/networking/packet_mmap.rst).
fn tag(message: &libc::msghdr) -> Option<[u8; 4]> {
    // SAFETY: the kernel has filled the message, whose buffer is aligned and still there.
    let mut element = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !element.is_null() {
        // SAFETY: the element is within the buffer.
        let head = unsafe { *element };
        if (head.cmsg_level, head.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
            // SAFETY: behind a head of this type is this value.
            let aux: libc::tpacket_auxdata =
                unsafe { libc::CMSG_DATA(element).cast::<libc::tpacket_auxdata>().read_unaligned() };
            if aux.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
                return None;
            }
            let ([p0, p1], [t0, t1]) = (aux.tp_vlan_tpid.to_be_bytes(), aux.tp_vlan_tci.to_be_bytes());
            return Some([p0, p1, t0, t1]);
        }
        // SAFETY: see above.
        element = unsafe { libc::CMSG_NXTHDR(message, element) };
    }
    None
}
