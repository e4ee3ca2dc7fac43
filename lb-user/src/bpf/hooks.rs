//! The connect hooks: attached to a cgroup, pinned, and known to be there.
//!
//! A link to a cgroup leaves the programs of others there in force, and runs beside them. Pinned, it outlives the agent;
//! the next one attaches its own before it removes it, so that no connection is made between the two.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{Array, MapData};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{CgroupAttachMode, CgroupSockAddr, ProgramError};
use lb_ebpf::abi::{Hook, map};
use lb_proto::plan::stable_hash;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::attach::{chain, directory_of};
use super::tables::{TableError, at};

/// The programs in the object, and what their links are pinned as.
const PROGRAMS: [(&str, &str); 4] = [
    ("xvip_connect4", "hook-connect4"),
    ("xvip_connect6", "hook-connect6"),
    ("xvip_getpeername4", "hook-getpeername4"),
    ("xvip_getpeername6", "hook-getpeername6"),
];

/// Why this node's own clients are not served.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// No cgroup v2 hierarchy.
    #[error(
        "no cgroup v2 is mounted; boot with systemd.unified_cgroup_hierarchy=1 or run `mount -t cgroup2 none /sys/fs/cgroup/unified`, then name it as cgroup in [node]"
    )]
    NoHierarchy,
    /// The directory is not part of one.
    #[error("{0} is no cgroup v2; name a directory of the cgroup2 file system as cgroup in [node]")]
    NotCgroup(PathBuf),
    /// The directory cannot be used.
    #[error("cgroup {path}: {source}")]
    Cgroup {
        /// Where.
        path: PathBuf,
        /// What.
        #[source]
        source: io::Error,
    },
    /// A pin cannot be made or removed.
    #[error("{path}: {source}")]
    Pin {
        /// Where.
        path: PathBuf,
        /// What.
        #[source]
        source: io::Error,
    },
    /// The network namespace has no cookie.
    #[error("cannot tell this network namespace from others, which needs Linux 5.14: {0}")]
    Namespace(io::Error),
    /// The kernel refused a program.
    #[error("the kernel refused {program}: {why}")]
    Refused {
        /// Which.
        program: &'static str,
        /// Why, with a remedy where there is one.
        why: String,
    },
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The attached hooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    cgroup: PathBuf,
    /// Device and inode of the cgroup; one made anew under the same name has others.
    identity: (u64, u64),
    /// The kernel's ids of the programs, in the order of [`PROGRAMS`].
    programs: Vec<u32>,
    directory: PathBuf,
}

impl Hooks {
    /// Attaches the hooks of a loaded object to a cgroup and pins them below the node's directory; then what an earlier
    /// agent left there goes.
    ///
    /// # Errors
    /// See [`HookError`]; what was attached before stays.
    pub fn attach(ebpf: &mut Ebpf, node: &str, cgroup: &Path) -> Result<Self, HookError> {
        let at_cgroup = |source| HookError::Cgroup { path: cgroup.to_owned(), source };
        let file = File::open(cgroup).map_err(at_cgroup)?;
        if !is_cgroup(cgroup).map_err(at_cgroup)? {
            return Err(HookError::NotCgroup(cgroup.to_owned()));
        }
        let identity = identity(cgroup).map_err(at_cgroup)?;
        let client = stable_hash(node.bytes());
        let client = [client as u32, (client >> 32) as u32];
        let hook = Hook { netns: namespace().map_err(HookError::Namespace)?, client };
        let table = ebpf.map_mut(map::HOOK).ok_or(TableError::Missing(map::HOOK))?;
        let mut table: Array<&mut MapData, Hook> = table.try_into().map_err(at(map::HOOK))?;
        table.set(0, hook, 0).map_err(at(map::HOOK))?;

        let directory = directory_of(node);
        // Before any socket is translated, getpeername must know what was dialled.
        let mut programs = vec![0; PROGRAMS.len()];
        for (at, (name, pin)) in PROGRAMS.iter().enumerate().rev() {
            let id = one(ebpf, name, pin, &file, &directory)?;
            if let Some(slot) = programs.get_mut(at) {
                *slot = id;
            }
        }
        Ok(Self { cgroup: cgroup.to_owned(), identity, programs, directory })
    }

    /// The cgroup.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Why the hooks are not in force any more; `None` while they are.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        if identity(&self.cgroup).ok() != Some(self.identity) {
            return Some(format!("{} is another cgroup than before, or none", self.cgroup.display()));
        }
        for ((name, pin), id) in PROGRAMS.iter().zip(&self.programs) {
            let link = PinnedLink::from_pin(self.directory.join(pin)).map(FdLink::from);
            if !link.is_ok_and(|link| link.info().is_ok_and(|info| info.program_id() == *id)) {
                return Some(format!("{name} is not attached any more"));
            }
        }
        None
    }

    /// Removes the hooks of a node.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn detach(node: &str) -> Result<(), HookError> {
        let directory = directory_of(node);
        for (_, pin) in PROGRAMS {
            remove(&directory.join(pin))?;
        }
        Ok(())
    }
}

/// Has the kernel look at the programs that take the place of an earlier object's. What is wrong with one shows where it is
/// attached.
pub(super) fn verify_again(ebpf: &mut Ebpf, directory: &Path) {
    for (name, _) in PROGRAMS.iter().filter(|(_, pin)| directory.join(pin).exists()) {
        if let Some(Ok(program)) = ebpf.program_mut(name).map(<&mut CgroupSockAddr>::try_from) {
            let _ = program.load();
        }
    }
}

/// Loads, attaches and pins one program; returns its id.
fn one(ebpf: &mut Ebpf, name: &'static str, pin: &str, cgroup: &File, directory: &Path) -> Result<u32, HookError> {
    let refused = |error: &(dyn std::error::Error + 'static)| HookError::Refused { program: name, why: chain(error) };
    let program = ebpf.program_mut(name).ok_or(HookError::Refused {
        program: name,
        why: "this binary has no datapath inside; build it with `cargo xtask build`".to_owned(),
    })?;
    let program: &mut CgroupSockAddr = program.try_into().map_err(|error: ProgramError| refused(&error))?;
    match program.load() {
        Err(error) if !matches!(error, ProgramError::AlreadyLoaded) => return Err(refused(&error)),
        _ => {}
    }
    // A link always leaves others in force (BPF_F_ALLOW_MULTI) and takes no flag that says so.
    let attached = program.attach(cgroup, CgroupAttachMode::Single);
    let id = attached.map_err(|error| match errno(&error) {
        Some(libc::EPERM) => HookError::Refused {
            program: name,
            why: "another program claims this cgroup for itself; see `bpftool cgroup show` there, or name another as \
                  cgroup in [node]"
                .to_owned(),
        },
        _ => refused(&error),
    })?;
    let link = program.take_link(id).map_err(|error| refused(&error))?;
    let link = FdLink::try_from(link).map_err(|error| refused(&error))?;
    // Attached beside the old link, then put in its place: renaming drops what was there.
    let (fresh, place) = (directory.join(format!("{pin}-new")), directory.join(pin));
    remove(&fresh)?;
    link.pin(&fresh).map_err(|error| refused(&error))?;
    fs::rename(&fresh, &place).map_err(|source| HookError::Pin { path: place, source })?;
    let info = program.info().map_err(|error| refused(&error))?;
    Ok(info.id())
}

fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(call) => call.io_error.raw_os_error(),
        _ => None,
    }
}

fn remove(path: &Path) -> Result<(), HookError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(HookError::Pin { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn is_cgroup(path: &Path) -> io::Result<bool> {
    Ok(statfs(path)?.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let meta = fs::metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

/// `SO_NETNS_COOKIE` (asm-generic/socket.h)
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The kernel's cookie of this network namespace.
fn namespace() -> io::Result<u64> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `cookie`; the socket is open.
    let asked = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if asked < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

/// The root of the cgroup v2 hierarchy, as this process sees it.
///
/// # Errors
/// When there is none, or the mounts cannot be read.
pub fn cgroup_root() -> Result<PathBuf, HookError> {
    let path = Path::new("/proc/self/mountinfo");
    let mounts = fs::read_to_string(path).map_err(|source| HookError::Cgroup { path: path.to_owned(), source })?;
    root_in(&mounts).ok_or(HookError::NoHierarchy)
}

/// The mount point of the whole hierarchy, else of a part of it (proc_pid_mountinfo(5): the fourth field is the mounted
/// part, the fifth the mount point, and the type comes after a field that is a hyphen).
fn root_in(mounts: &str) -> Option<PathBuf> {
    let of_line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (part, point) = (fields.next()?, fields.next()?);
        (after.split(' ').next() == Some("cgroup2")).then(|| (part == "/", PathBuf::from(unescape(point))))
    };
    let found: Vec<_> = mounts.lines().filter_map(of_line).collect();
    let whole = found.iter().find(|(whole, _)| *whole);
    whole.or(found.first()).map(|(_, point)| point.clone())
}

/// Blanks and the like stand as a backslash and three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        rest = match code {
            Some(code) => {
                plain.push(char::from(code));
                after.get(3..).unwrap_or_default()
            }
            None => {
                plain.push('\\');
                after
            }
        };
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_among_the_mounts() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                      40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:5 - cgroup2 cgroup2 rw\n";
        assert_eq!(root_in(hybrid), Some("/sys/fs/cgroup/unified".into()));
        let part = "50 1 0:38 /pods /mnt/a\\040part rw - cgroup2 none rw\n";
        assert_eq!(root_in(part), Some("/mnt/a part".into()));
        assert_eq!(root_in(&format!("{part}{hybrid}")), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(root_in("31 23 0:28 / / rw - ext4 /dev/cgroup2 rw\nnonsense\n"), None);
        assert_eq!(unescape("a\\9"), "a\\9");
    }

    #[test]
    fn this_namespace_has_a_cookie() {
        assert_eq!(namespace().unwrap(), namespace().unwrap());
        assert_ne!(namespace().unwrap(), 0);
    }
}
