//! Programs on an interface: XDP, tcx, and classic traffic control filters. They are listed, never touched.

use std::collections::BTreeMap;

use aya::programs::{ProgramError, ProgramInfo, SchedClassifier, TcAttachType, loaded_programs};

use crate::doctor::facts::{Hook, Program, Seen, is_ours};
use crate::netlink::{Detail, Netlink};

/// Names of all loaded programs, by the kernel's number.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(BTreeMap<u32, String>);

impl Names {
    /// None where this process may not see them.
    pub(super) fn look() -> Self {
        let named = |info: ProgramInfo| (info.id(), info.name_as_str().unwrap_or_default().to_owned());
        Self(loaded_programs().map_while(Result::ok).map(named).collect())
    }

    /// Whether a program is one of xvip's, or may not be seen.
    pub(super) fn is_ours(&self, id: u32) -> bool {
        self.0.get(&id).is_none_or(|name| is_ours(name))
    }

    fn of(&self, id: u32) -> Option<String> {
        self.0.get(&id).cloned()
    }
}

/// Everything on the interface `name`, in the order in which packets meet it.
pub(super) async fn on(netlink: Netlink, name: &str, detail: &Detail, names: &Names) -> Vec<Seen<Program>> {
    let mut programs = Vec::new();
    for xdp in &detail.xdp {
        let hook = if xdp.generic { Hook::XdpGeneric } else { Hook::XdpNative };
        programs.push(Ok(Program { hook, name: names.of(xdp.id), id: Some(xdp.id) }));
    }
    for (ingress, point) in [(true, TcAttachType::Ingress), (false, TcAttachType::Egress)] {
        match SchedClassifier::query_tcx(name, point) {
            Ok((_, infos)) => programs.extend(infos.iter().map(|info| {
                let name = info.name_as_str().map(str::to_owned);
                Ok(Program { hook: Hook::Tcx { ingress }, name, id: Some(info.id()) })
            })),
            // Before 6.6 there is none.
            Err(error) if matches!(errno(&error), Some(libc::EINVAL | libc::ENOENT)) => {}
            Err(_) if !ingress => {}
            Err(error) => programs.push(Err(format!("tcx programs: {}", text(&error)))),
        }
    }
    match netlink.filters(detail.index).await {
        Ok(filters) => programs.extend(filters.into_iter().map(|filter| {
            let named = filter.program.and_then(|id| names.of(id)).filter(|name| !name.is_empty());
            let name = named.or(filter.name).unwrap_or(filter.kind);
            Ok(Program { hook: Hook::Filter { ingress: filter.ingress }, name: Some(name), id: filter.program })
        })),
        // Without traffic control in the kernel there are none.
        Err(error) if error.refused_with() == Some(libc::EOPNOTSUPP) => {}
        Err(error) => programs.push(Err(error.to_string())),
    }
    programs
}

fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(call) => call.io_error.raw_os_error(),
        _ => None,
    }
}

fn text(error: &ProgramError) -> String {
    match error {
        ProgramError::SyscallError(call) => call.io_error.to_string(),
        other => other.to_string(),
    }
}
