//! A whole table read in a few steps, bucket by bucket: no entry comes twice because another went meanwhile, as it does
//! when each is asked for after the one before.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use aya::Pod;

/// `BPF_MAP_LOOKUP_BATCH` (linux/bpf.h, Linux 5.6)
const LOOKUP_BATCH: libc::c_long = 24;
/// Entries asked for at a time; more where a bucket has more.
const MANY: u32 = 4096;

/// `struct { ... } batch` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Calls `each` with every entry of a hash table whose keys and values are of these types.
///
/// # Errors
/// What the kernel says; entries before that were handed on.
pub(super) fn entries<K: Pod + Default, V: Pod + Default>(
    table: impl AsFd, mut each: impl FnMut(K, V),
) -> io::Result<()> {
    let fd = table.as_fd().as_raw_fd();
    let map_fd = u32::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let (mut keys, mut values) = (Vec::<K>::new(), Vec::<V>::new());
    let (mut room, mut next) = (MANY, None::<u32>);
    loop {
        keys.resize(room as usize, K::default());
        values.resize(room as usize, V::default());
        let mut after = 0_u32;
        let mut attributes = Attributes {
            in_batch: next.as_ref().map_or(0, |next| std::ptr::from_ref(next).expose_provenance() as u64),
            out_batch: (&raw mut after).expose_provenance() as u64,
            keys: keys.as_mut_ptr().expose_provenance() as u64,
            values: values.as_mut_ptr().expose_provenance() as u64,
            count: room,
            map_fd,
            ..Attributes::default()
        };
        // SAFETY: the attributes are those of this command; the kernel writes at most `count` keys and values, for which
        // both vectors have room, and a word behind `out_batch`. Any bytes are a valid key and value.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, LOOKUP_BATCH, &raw mut attributes, size_of::<Attributes>()) };
        let error = (result < 0).then(io::Error::last_os_error);
        let ended = match error.as_ref().map(|error| error.raw_os_error()) {
            None => false,
            Some(Some(libc::ENOENT)) => true,
            Some(Some(libc::ENOSPC)) => {
                room = room.checked_mul(2).ok_or(io::ErrorKind::OutOfMemory)?;
                continue;
            }
            Some(Some(libc::EINTR)) => continue,
            Some(_) => return Err(error.unwrap_or_else(io::Error::last_os_error)),
        };
        for (key, value) in keys.iter().zip(&values).take(attributes.count as usize) {
            each(*key, *value);
        }
        if ended {
            return Ok(());
        }
        next = Some(after);
    }
}
