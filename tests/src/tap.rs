//! A wire between two tap devices, as a virtual machine has it: a process carries the frames, with segments joined and
//! checksums unfinished.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};

use crate::netns::Netns;

/// The longest frame, and the header that says what is left to do about it (`struct virtio_net_hdr`).
const LONGEST: usize = 65_536 + 64;
/// How soon the end of the wire is noticed, in milliseconds.
const TURN: u16 = 50;
// linux/if_tun.h
const OFFLOADS: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;

/// Two taps and what carries frames between them; both are gone when it is dropped.
#[derive(Debug)]
pub struct Cable {
    stop: Arc<AtomicBool>,
    carriers: Vec<JoinHandle<()>>,
}

impl Cable {
    /// Makes a tap in each namespace. They have no addresses, and are down.
    pub fn between(one: (&Netns, &str), other: (&Netns, &str)) -> Result<Cable> {
        let tap = |(netns, device): (&Netns, &str)| -> Result<Arc<OwnedFd>> {
            let tap = netns.enter(|| tap(device))?.with_context(|| format!("making the tap {device}"))?;
            Ok(Arc::new(tap))
        };
        let (one, other) = (tap(one)?, tap(other)?);
        let stop = Arc::new(AtomicBool::new(false));
        let mut cable = Cable { stop: stop.clone(), carriers: Vec::new() };
        for (from, to) in [(one.clone(), other.clone()), (other, one)] {
            let stop = stop.clone();
            let carrier = std::thread::Builder::new().name("cable".to_owned());
            cable.carriers.push(carrier.spawn(move || carry(&from, &to, &stop))?);
        }
        Ok(cable)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for carrier in self.carriers.drain(..) {
            let _ = carrier.join();
        }
    }
}

/// Makes a tap in the current namespace; it lasts as long as the descriptor.
fn tap(device: &str) -> io::Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(device.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: the request is a live ifreq, which is what this command reads and writes.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: this command takes a number and no pointer.
    let set = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(OFFLOADS)) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(file.into()) }
}

/// Carries frames one way, each with its header as it came, until it is to stop.
fn carry(from: &OwnedFd, to: &OwnedFd, stop: &AtomicBool) {
    let mut buffer = vec![0; LONGEST];
    while !stop.load(Ordering::Relaxed) {
        match read(from, &mut buffer) {
            // A wire loses what its other end does not take: it is down, or its queue is full.
            Ok(length) => drop(write(to, buffer.get(..length).unwrap_or_default())),
            Err(Errno::EAGAIN | Errno::EINTR) => {
                let _ = poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], PollTimeout::from(TURN));
            }
            // The device is gone, or not up yet.
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(TURN.into())),
        }
    }
}
