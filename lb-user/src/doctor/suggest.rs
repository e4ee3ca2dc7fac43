//! Which datapath suits a device. Pure.

/// What decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traits {
    /// `veth`, `bridge` and the like; none for hardware.
    pub kind: Option<String>,
    /// The driver's name, where known.
    pub driver: Option<String>,
    /// Whether the driver runs XDP; none where the kernel does not say (before 6.3).
    pub native_xdp: Option<bool>,
    /// Whether the device joins received segments before XDP could see them.
    pub joins_segments: bool,
    /// Whether somebody else's XDP program sits on it.
    pub foreign_xdp: bool,
    /// Whether the kernel has tcx (since 6.6).
    pub tcx: bool,
    /// Bytes of the largest packet.
    pub mtu: u32,
}

/// Bytes of the largest packet that native XDP takes in one page with its head room and tail room.
pub const LARGEST_NATIVE: u32 = 3498;

/// A datapath.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suggestion {
    /// XDP in the driver.
    NativeXdp,
    /// XDP in the stack.
    GenericXdp,
    /// Traffic control.
    Tc,
    /// None can be attached.
    Nothing,
}

impl Suggestion {
    /// As in the configuration.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NativeXdp => "xdp",
            Self::GenericXdp => "xdp-generic",
            Self::Tc => "tc",
            Self::Nothing => "none",
        }
    }
}

/// The datapath, and why.
#[must_use]
pub fn suggest(traits: &Traits) -> (Suggestion, &'static str) {
    let Traits { kind, driver, native_xdp, joins_segments, foreign_xdp, tcx, mtu } = traits;
    let native = match native_xdp {
        Some(true) => (Suggestion::NativeXdp, "the driver runs XDP"),
        _ => (Suggestion::NativeXdp, "it is hardware; whether its driver runs XDP shows when the agent attaches"),
    };
    if !tcx {
        return match native_xdp {
            _ if *foreign_xdp => (Suggestion::Nothing, "another XDP program is on it, and the kernel has no tcx"),
            Some(false) => (Suggestion::GenericXdp, "the driver does not run XDP, and the kernel has no tcx"),
            _ => native,
        };
    }
    let tc = |why| (Suggestion::Tc, why);
    match (kind, driver.as_deref()) {
        _ if *foreign_xdp => tc("another XDP program is on it"),
        (Some(_), _) => tc("packets of a virtual device come joined and with unfinished checksums"),
        (None, Some("virtio_net")) if *joins_segments => tc("XDP on virtio costs the guest offloads"),
        _ if *native_xdp == Some(false) => tc("the driver does not run XDP"),
        _ if *mtu > LARGEST_NATIVE => tc("its MTU is too large for XDP in one page"),
        _ => native,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_kind_driver_and_company() {
        let card =
            Traits { driver: Some("ixgbe".into()), native_xdp: Some(true), tcx: true, mtu: 1500, ..Traits::default() };
        let kind = |kind: &str| Traits { kind: Some(kind.into()), ..card.clone() };
        let virtio = |joins_segments| Traits { driver: Some("virtio_net".into()), joins_segments, ..card.clone() };
        let old = |traits| Traits { tcx: false, ..traits };
        for (traits, expected) in [
            (card.clone(), Suggestion::NativeXdp),
            (Traits { native_xdp: None, ..card.clone() }, Suggestion::NativeXdp),
            (Traits { native_xdp: Some(false), ..card.clone() }, Suggestion::Tc),
            (Traits { foreign_xdp: true, ..card.clone() }, Suggestion::Tc),
            (Traits { mtu: 9000, ..card.clone() }, Suggestion::Tc),
            (kind("veth"), Suggestion::Tc),
            (kind("tun"), Suggestion::Tc),
            (kind("bridge"), Suggestion::Tc),
            (kind("macvlan"), Suggestion::Tc),
            (kind("vlan"), Suggestion::Tc),
            (kind("bond"), Suggestion::Tc),
            (virtio(true), Suggestion::Tc),
            (virtio(false), Suggestion::NativeXdp),
            (old(card.clone()), Suggestion::NativeXdp),
            (old(kind("veth")), Suggestion::NativeXdp),
            (old(Traits { native_xdp: Some(false), ..kind("bond") }), Suggestion::GenericXdp),
            (old(Traits { foreign_xdp: true, ..card.clone() }), Suggestion::Nothing),
        ] {
            assert_eq!(suggest(&traits).0, expected, "{traits:?}");
        }
    }
}
