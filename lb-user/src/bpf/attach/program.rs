//! One way of attaching for both kinds of program, by links that outlive the agent when they are pinned.

use std::path::Path;
use std::time::Duration;

use aya::programs::links::{FdLink, LinkError, LinkOrder, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::{XdpLink, XdpLinkId};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};

use super::observe::has_tcx;
use super::{Device, chain};
use crate::clock;

/// How long the kernel may take to detach what was just unpinned.
const DETACHING: Duration = Duration::from_millis(500);

/// A loaded program, and how it is to be attached.
pub(super) enum Program<'a> {
    /// By XDP.
    Xdp(&'a mut Xdp, XdpMode),
    /// By tcx, to what enters the device or leaves it.
    Tc(&'a mut SchedClassifier, TcAttachType),
}

impl Program<'_> {
    /// The kernel's id.
    pub(super) fn id(&self) -> Result<u32, ProgramError> {
        let info = match self {
            Self::Xdp(program, _) => program.info(),
            Self::Tc(program, _) => program.info(),
        };
        Ok(info?.id())
    }

    /// Attaches it by a link of its own; the error is the kernel's refusal, with a remedy.
    pub(super) fn attach(&mut self, device: &Device) -> Result<FdLink, String> {
        match self {
            Self::Xdp(program, mode) => {
                let id = attach_xdp(program, *mode, device).map_err(|error| xdp_refusal(&error, *mode))?;
                let link = program.take_link(id).map_err(|error| chain(&error))?;
                // Without links for XDP (before 5.9) aya attaches by netlink, which anybody may replace and nothing
                // can pin.
                FdLink::try_from(link).map_err(|_| "the kernel has no links for XDP; it needs 5.9 or newer".to_owned())
            }
            Self::Tc(program, way) => {
                // In front: a program that lets packets pass ends the round for all behind it. What leaves has been
                // through the others when the wire has it, so there the last is in front.
                let order = match way {
                    TcAttachType::Egress => LinkOrder::last(),
                    _ => LinkOrder::first(),
                };
                let id = program
                    .attach_with_options(&device.name, *way, TcAttachOptions::TcxOrder(order))
                    .map_err(|error| tc_refusal(&error))?;
                let link = program.take_link(id).map_err(|error| chain(&error))?;
                FdLink::try_from(link).map_err(|error| chain(&error))
            }
        }
    }

    /// Exchanges the program of a pinned link for ours. The link stays where it is among others.
    pub(super) fn adopt(&mut self, pin: &Path) -> Result<(), String> {
        let link = FdLink::from(PinnedLink::from_pin(pin).map_err(|error: LinkError| error.to_string())?);
        // The pin keeps the link alive; our own handle is not needed.
        match self {
            Self::Xdp(program, _) => {
                let link = XdpLink::try_from(link).map_err(|error| error.to_string())?;
                let id = program.attach_to_link(link).map_err(|error| chain(&error))?;
                drop(FdLink::try_from(program.take_link(id).map_err(|error| error.to_string())?));
            }
            Self::Tc(program, _) => {
                let link = SchedClassifierLink::try_from(link).map_err(|error| error.to_string())?;
                let id = program.attach_to_link(link).map_err(|error| chain(&error))?;
                drop(FdLink::try_from(program.take_link(id).map_err(|error| error.to_string())?));
            }
        }
        Ok(())
    }
}

/// Attaches; waits where the device is still held by a link of ours that was just removed, because the kernel takes
/// it off a moment later.
fn attach_xdp(program: &mut Xdp, mode: XdpMode, device: &Device) -> Result<XdpLinkId, ProgramError> {
    let deadline = clock::now() + DETACHING;
    loop {
        match program.attach_to_if_index(device.index, mode) {
            Err(ProgramError::SyscallError(call))
                if matches!(call.io_error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
                    && clock::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            outcome => return outcome,
        }
    }
}

fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(call) => call.io_error.raw_os_error(),
        _ => None,
    }
}

/// What a refusal means and what to do.
fn xdp_refusal(error: &ProgramError, mode: XdpMode) -> String {
    match errno(error) {
        Some(libc::EBUSY | libc::EEXIST) => {
            "another XDP program is attached; find it with `bpftool net` and remove it, xvip displaces nobody"
                .to_owned()
        }
        Some(libc::EOPNOTSUPP) if matches!(mode, XdpMode::Driver) => "the driver does not run XDP".to_owned(),
        Some(libc::EINVAL | libc::ERANGE | libc::EOPNOTSUPP) => {
            format!(
                "the device refuses in its present settings, such as an MTU above one page, LRO or too few queues ({})",
                chain(error)
            )
        }
        _ => chain(error),
    }
}

fn tc_refusal(error: &ProgramError) -> String {
    match errno(error) {
        Some(_) if !has_tcx() => "the kernel has no tcx: use Linux 6.6 or newer".to_owned(),
        Some(libc::EINVAL | libc::EOPNOTSUPP) => {
            format!("the kernel refuses tcx; it needs CONFIG_NET_XGRESS ({})", chain(error))
        }
        Some(libc::ERANGE) => {
            "the device has as many TC programs as it can have; find them with `bpftool net` and remove one".to_owned()
        }
        _ => chain(error),
    }
}
