//! The programs for IPv6, which those for all packets hand theirs to by a tail call.
//!
//! The array that names them is pinned with the tables: the kernel empties one that nobody holds.

use aya::maps::ProgramArray;
use aya::programs::{ProgramError, ProgramFd};
use aya::{Ebpf, EbpfError};
use lb_ebpf::abi::map;

use super::{DatapathError, tc, xdp};

/// By XDP.
const PROGRAM: &str = "xvip6";
/// By TC.
const TC_PROGRAM: &str = "xvip_tc6";

/// Loads the program for IPv6 of a way in, and has that way's other program hand over to it from now on.
///
/// # Errors
/// When the kernel refuses.
pub fn join(ebpf: &mut Ebpf, is_tc: bool) -> Result<(), DatapathError> {
    let (program, array): (ProgramFd, _) = if is_tc {
        (tc(ebpf, TC_PROGRAM)?.fd()?.try_clone().map_err(ProgramError::from)?, map::TC_SIX)
    } else {
        (xdp(ebpf, PROGRAM)?.fd()?.try_clone().map_err(ProgramError::from)?, map::SIX)
    };
    let map = ebpf.map_mut(array).ok_or(DatapathError::Stub)?;
    let set = ProgramArray::try_from(map).and_then(|mut array| array.set(0, &program, 0));
    Ok(set.map_err(EbpfError::from)?)
}
