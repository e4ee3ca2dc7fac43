//! What the kernel says of a pinned link: of which program it is, and whether it still holds a device.
//!
//! A link outlives its device, and anybody with the right to may detach it; its pin does not show that.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

// linux/bpf.h
const OBJECT_GET: libc::c_long = 7;
const INFO_BY_FD: libc::c_long = 15;
const PROGRAM_QUERY: libc::c_long = 16;
const TCX_INGRESS: u32 = 46;
/// The kernel lets no more programs be at one place.
const MOST_PROGRAMS: usize = 64;
const TYPE_XDP: u32 = 6;
const TYPE_TCX: u32 = 11;

/// A link of XDP or TC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// The kernel's id of the program.
    pub(super) program_id: u32,
    /// Index of the device; 0: it holds none any more.
    pub(super) ifindex: u32,
}

/// Attributes of BPF_OBJ_GET.
#[repr(C)]
struct Get {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Attributes of BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct Ask {
    fd: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_link_info`.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    program_id: u32,
    padding: u32,
    /// For the two types above.
    ifindex: u32,
    attach_type: u32,
}

/// Attributes of BPF_PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct Query {
    ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
    /// Of programs, of links, of links again, and the revision: not asked for.
    others: [u64; 4],
}

/// The programs that TC runs for what enters a device, by number and in their order. Their names, which aya asks for as
/// well, are told to nobody but CAP_SYS_ADMIN.
///
/// # Errors
/// When the kernel does not tell: it has no tcx, or there is no such device.
pub(super) fn programs_of_tc(ifindex: u32) -> io::Result<Vec<u32>> {
    let mut programs = vec![0_u32; MOST_PROGRAMS];
    let mut query = Query {
        ifindex,
        attach_type: TCX_INGRESS,
        programs: programs.as_mut_ptr() as u64,
        count: MOST_PROGRAMS as u32,
        ..Query::default()
    };
    bpf(PROGRAM_QUERY, &mut query)?;
    programs.truncate(query.count as usize);
    Ok(programs)
}

/// Reads what is pinned at `path`.
///
/// # Errors
/// When nothing is there, or something other than a link of XDP or TC.
pub(super) fn read(path: &Path) -> io::Result<Link> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut get = Get { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    let fd = bpf(OBJECT_GET, &mut get)?;
    // SAFETY: the kernel has just made it for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = Info::default();
    let mut ask = Ask {
        fd: fd.as_raw_fd().cast_unsigned(),
        length: size_of::<Info>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(INFO_BY_FD, &mut ask)?;
    match info.kind {
        TYPE_XDP | TYPE_TCX => Ok(Link { program_id: info.program_id, ifindex: info.ifindex }),
        kind => Err(io::Error::other(format!("it is a link of type {kind}"))),
    }
}

/// Whether the link pinned at `path` holds this device.
pub(super) fn is_live(path: &Path, ifindex: u32) -> bool {
    read(path).is_ok_and(|link| link.ifindex == ifindex)
}

/// Whether the link pinned at `path` holds this device with this program.
pub(super) fn holds(path: &Path, program: u32, ifindex: u32) -> bool {
    read(path).is_ok_and(|link| link.program_id == program && link.ifindex == ifindex)
}

fn bpf<A>(command: libc::c_long, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: the attributes have the kernel's layout for this command, the kernel takes what is beyond them as zero,
    // and what their pointers point at outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pin_is_no_link() {
        assert!(read(Path::new("/sys/fs/bpf/no such pin")).is_err());
        assert!(read(Path::new("with\0zero")).is_err());
        assert!(!is_live(Path::new("/proc/self/status"), 1));
        assert!(programs_of_tc(u32::MAX).is_err());
    }
}
