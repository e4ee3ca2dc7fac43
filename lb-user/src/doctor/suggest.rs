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
    /// Traffic control.
    Tc,
}

impl Suggestion {
    /// As in the configuration.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NativeXdp => "xdp",
            Self::Tc => "tc",
        }
    }
}

/// The datapath, and why.
#[must_use]
pub fn suggest(traits: &Traits) -> (Suggestion, &'static str) {
    let Traits { kind, driver, native_xdp, joins_segments, foreign_xdp, mtu } = traits;
    let tc = |why| (Suggestion::Tc, why);
    match (kind.as_deref(), driver.as_deref()) {
        _ if *foreign_xdp => tc("another XDP program sits on it"),
        (Some("veth"), _) => tc("XDP on a veth costs the offloads of both ends"),
        (Some(_), _) => tc("a virtual device gains nothing from XDP"),
        (None, Some("tun")) => tc("a virtual device gains nothing from XDP"),
        (None, Some("virtio_net")) if *joins_segments => tc("XDP on virtio costs the guest offloads"),
        _ if *native_xdp == Some(false) => tc("the driver does not run XDP"),
        _ if *mtu > LARGEST_NATIVE => tc("its MTU is too large for XDP in one page"),
        _ if *native_xdp == Some(true) => (Suggestion::NativeXdp, "the driver runs XDP"),
        _ => (Suggestion::NativeXdp, "it is hardware; whether its driver runs XDP shows when the agent attaches"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_kind_driver_and_company() {
        let card = Traits { driver: Some("ixgbe".into()), native_xdp: Some(true), mtu: 1500, ..Traits::default() };
        let kind = |kind: &str| Traits { kind: Some(kind.into()), ..card.clone() };
        let virtio = Traits { driver: Some("virtio_net".into()), ..card.clone() };
        let joining = |joins_segments| Traits { joins_segments, ..virtio.clone() };
        for (traits, expected) in [
            (card.clone(), Suggestion::NativeXdp),
            (Traits { native_xdp: None, ..card.clone() }, Suggestion::NativeXdp),
            (Traits { native_xdp: Some(false), ..card.clone() }, Suggestion::Tc),
            (Traits { foreign_xdp: true, ..card.clone() }, Suggestion::Tc),
            (Traits { mtu: 9000, ..card.clone() }, Suggestion::Tc),
            (kind("veth"), Suggestion::Tc),
            (kind("bridge"), Suggestion::Tc),
            (kind("macvlan"), Suggestion::Tc),
            (kind("vlan"), Suggestion::Tc),
            (kind("bond"), Suggestion::Tc),
            (Traits { kind: None, driver: Some("tun".into()), ..card.clone() }, Suggestion::Tc),
            (joining(true), Suggestion::Tc),
            (joining(false), Suggestion::NativeXdp),
        ] {
            assert_eq!(suggest(&traits).0, expected, "{traits:?}");
        }
    }
}
