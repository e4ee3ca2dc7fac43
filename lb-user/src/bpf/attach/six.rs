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

/// Loads the program for IPv6 of a way in.
pub(super) fn load(ebpf: &mut Ebpf, is_tc: bool) -> Result<ProgramFd, DatapathError> {
    let program = if is_tc { tc(ebpf, TC_PROGRAM)?.fd()? } else { xdp(ebpf, PROGRAM)?.fd()? };
    Ok(program.try_clone().map_err(ProgramError::from)?)
}

/// Has the other program of a way in hand over to the one for IPv6 from now on, which is loaded unless it is.
///
/// # Errors
/// When the kernel refuses.
pub fn join(ebpf: &mut Ebpf, is_tc: bool) -> Result<(), DatapathError> {
    let program = load(ebpf, is_tc)?;
    let array = if is_tc { map::TC_SIX } else { map::SIX };
    let map = ebpf.map_mut(array).ok_or(DatapathError::Stub)?;
    let set = ProgramArray::try_from(map).and_then(|mut array| array.set(0, &program, 0));
    Ok(set.map_err(EbpfError::from)?)
}
