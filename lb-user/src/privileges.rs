//! Giving up what root may do and the agent need not.
//!
//! Capabilities belong to threads, so this comes before there are any others. Programs that the agent starts (hooks, tracked
//! commands) have no more than the agent: it promises the kernel never to gain anything by executing a file.

use std::io;

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;

/// What the agent needs as long as it runs, and for what.
pub const KEPT: [(Capability, &str); 6] = [
    (Capability::CAP_BPF, "programs and their tables, at every start, reload and return of an interface"),
    (Capability::CAP_CHOWN, "`--save` leaves the configuration file to its owner and group"),
    (Capability::CAP_NET_ADMIN, "attaching programs; addresses and settings of interfaces"),
    (Capability::CAP_NET_RAW, "adverts, announcements, and RSTs to clients of backends that are gone"),
    (Capability::CAP_PERFMON, "the verifier takes the datapath's arithmetic with pointers"),
    (Capability::CAP_SYS_NICE, "the thread of the adverts goes first"),
];

/// Why privileges could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// One of the sets of capabilities.
    #[error("cannot give up capabilities: {0}")]
    Capabilities(#[from] CapsError),
    /// The promise about execve(2).
    #[error("cannot promise never to gain privileges: {0}")]
    Promise(#[source] io::Error),
}

/// Gives up every capability of this thread, and of those it starts, that is not [`KEPT`].
///
/// # Errors
/// When the kernel refuses, which it has no reason to.
pub fn reduce() -> Result<(), PrivilegeError> {
    let kept: CapsHashSet = KEPT.iter().map(|(capability, _)| *capability).collect();
    // Whoever may not change the bounding set gains nothing by it: see below.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::read(None, CapSet::Bounding)?.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    let held = &caps::read(None, CapSet::Permitted)? & &kept;
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &held)?;
    caps::set(None, CapSet::Permitted, &held)?;
    // SAFETY: takes numbers alone.
    let promised = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    Errno::result(promised).map(drop).map_err(|errno| PrivilegeError::Promise(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_is_left_to_a_thread_or_what_it_starts() {
        // Capabilities are the thread's own: other tests keep theirs.
        let left = std::thread::spawn(|| {
            let before = caps::read(None, CapSet::Permitted).unwrap();
            reduce().unwrap();
            let child = std::process::Command::new("cat").arg("/proc/self/status").output().unwrap();
            (before, caps::read(None, CapSet::Permitted).unwrap(), String::from_utf8(child.stdout).unwrap())
        });
        let (before, left, child) = left.join().unwrap();
        let kept: CapsHashSet = KEPT.iter().map(|(capability, _)| *capability).collect();
        assert_eq!(left, &before & &kept);
        let most = kept.iter().fold(0, |mask, capability| mask | capability.bitmask());
        let line = |name: &str| child.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        for set in ["CapPrm:", "CapEff:"] {
            let mask = u64::from_str_radix(&line(set), 16).unwrap();
            assert_eq!(mask & !most, 0, "{set} {mask:x}");
        }
        assert_eq!((line("CapInh:"), line("NoNewPrivs:")), ("0000000000000000".to_owned(), "1".to_owned()));
    }
}
