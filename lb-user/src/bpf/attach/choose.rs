//! Which modes to try on a device, in which order, and why. Pure.
//!
//! Native XDP costs least where a driver hands over frames as they came off the wire. Where segments arrive joined,
//! or checksums unfinished, as on every virtual device, XDP would have them cut up or could not tell; TC takes whole
//! socket buffers and leaves them joined. Generic XDP has the disadvantages of both, and works nearly everywhere.

use super::Mode;
use crate::config::Datapath;

/// Bytes of the largest packet that native XDP takes in one page of 4096, with its head room and tail room; some drivers
/// take less.
pub const LARGEST_NATIVE: u32 = 3498;

/// What is known of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `veth`, `bridge` and the like; none for hardware.
    pub kind: Option<String>,
    /// Name of its driver, if it has one that says so.
    pub driver: Option<String>,
    /// Whether the driver says that it runs XDP; none where the kernel does not tell (before 6.3).
    pub native_xdp: Option<bool>,
    /// Whether it joins segments that arrive (GRO in hardware).
    pub joins: bool,
    /// Whether it joins segments in a way that cannot be undone (LRO).
    pub joins_for_good: bool,
    /// Whether VLANs are on it whose tags it takes out of frames, so that XDP would take them for untagged.
    pub hides_tags: bool,
    /// The kernel's id of an XDP program of somebody else.
    pub foreign_xdp: Option<u32>,
    /// Whether the kernel has tcx (since 6.6).
    pub has_tcx: bool,
    /// Bytes of the largest packet.
    pub mtu: u32,
}

/// A mode to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The mode.
    pub mode: Mode,
    /// Why it is the one that serves, for people.
    pub why: String,
}

/// The mode that suits a device best, as far as it shows beforehand.
#[must_use]
pub fn best(facts: &Facts) -> Choice {
    let first = automatic(facts).into_iter().next();
    first.unwrap_or_else(|| Choice { mode: Mode::Generic, why: String::new() })
}

/// The modes to try, the best first; never none.
#[must_use]
pub(super) fn modes(asked: Datapath, facts: &Facts) -> Vec<Choice> {
    let one = |mode| vec![Choice { mode, why: "the configuration asks for it".to_owned() }];
    let mut choices = match asked {
        Datapath::Auto => automatic(facts),
        Datapath::Xdp => one(Mode::Native),
        Datapath::XdpGeneric => one(Mode::Generic),
        Datapath::Tc => one(Mode::Tc),
    };
    if facts.joins_for_good {
        // XDP is refused or switches it off; a socket buffer made so cannot be sent on.
        for choice in choices.iter_mut().filter(|choice| choice.mode == Mode::Tc) {
            choice
                .why
                .push_str("; large receive offload is on and loses packets here: run `ethtool -K DEVICE lro off`");
        }
    }
    choices
}

fn automatic(facts: &Facts) -> Vec<Choice> {
    let choice = |mode, why: &str| Choice { mode, why: why.to_owned() };
    let native = choice(Mode::Native, "the driver runs XDP");
    let generic = choice(Mode::Generic, "nothing better works here");
    if !facts.has_tcx {
        // Not every driver says of itself what it can do, so native XDP is tried all the same.
        return if facts.native_xdp == Some(false) { vec![generic, native] } else { vec![native, generic] };
    }
    if let Some(why) = reason_for_tc(facts) {
        let tc = choice(Mode::Tc, &why);
        // A device has one XDP program, so nothing of XDP is left to try beside somebody else's.
        return if facts.foreign_xdp.is_some() { vec![tc] } else { vec![tc, native, generic] };
    }
    vec![native, choice(Mode::Tc, "native XDP was refused"), generic]
}

/// Why TC serves a device better than XDP, if it does.
fn reason_for_tc(facts: &Facts) -> Option<String> {
    if let Some(program) = facts.foreign_xdp {
        return Some(format!("another XDP program, number {program}, is on the device and stays there"));
    }
    if let Some(kind) = &facts.kind {
        return Some(format!(
            "on a device of kind {kind} packets come joined and with unfinished checksums, which TC leaves as they are"
        ));
    }
    if facts.hides_tags {
        let why = "VLANs are on the device and their tags are hidden from XDP (rx-vlan-hw-parse is on)";
        return Some(why.to_owned());
    }
    if facts.joins && facts.driver.as_deref() == Some("virtio_net") {
        return Some("virtio_net hands packets over joined (rx-gro-hw is on), which XDP would end".to_owned());
    }
    if facts.native_xdp == Some(false) {
        return Some("the driver does not run XDP".to_owned());
    }
    (facts.mtu > LARGEST_NATIVE).then(|| format!("an MTU of {} is too large for XDP in one page", facts.mtu))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network card in a machine.
    fn card(driver: &str) -> Facts {
        Facts { driver: Some(driver.to_owned()), has_tcx: true, ..Facts::default() }
    }

    fn of_kind(kind: &str) -> Facts {
        Facts { kind: Some(kind.to_owned()), ..card(kind) }
    }

    #[test]
    fn every_device_gets_what_serves_it_best() {
        use Mode::{Generic, Native, Tc};
        let joining = |driver| Facts { joins: true, ..card(driver) };
        let foreign = |facts| Facts { foreign_xdp: Some(7), ..facts };
        let old = |facts| Facts { has_tcx: false, ..facts };
        let table: &[(&str, Facts, &[Mode], &str)] = &[
            ("a card", card("ixgbe"), &[Native, Tc, Generic], "the driver runs XDP"),
            ("a card that joins", joining("mlx5_core"), &[Native, Tc, Generic], "the driver runs XDP"),
            ("a card that names no driver", Facts { driver: None, ..card("") }, &[Native, Tc, Generic], "runs XDP"),
            (
                "a card with VLANs",
                Facts { hides_tags: true, ..card("ixgbe") },
                &[Tc, Native, Generic],
                "hidden from XDP",
            ),
            ("virtio", card("virtio_net"), &[Native, Tc, Generic], "the driver runs XDP"),
            ("virtio that joins", joining("virtio_net"), &[Tc, Native, Generic], "rx-gro-hw"),
            (
                "a card without XDP",
                Facts { native_xdp: Some(false), ..card("e1000") },
                &[Tc, Native, Generic],
                "does not run XDP",
            ),
            ("a card with XDP", Facts { native_xdp: Some(true), ..card("ixgbe") }, &[Native, Tc, Generic], "runs XDP"),
            ("jumbo frames", Facts { mtu: 9000, ..card("ixgbe") }, &[Tc, Native, Generic], "MTU of 9000"),
            ("veth", of_kind("veth"), &[Tc, Native, Generic], "kind veth"),
            ("tap", of_kind("tun"), &[Tc, Native, Generic], "kind tun"),
            ("bridge", of_kind("bridge"), &[Tc, Native, Generic], "kind bridge"),
            ("macvlan", of_kind("macvlan"), &[Tc, Native, Generic], "kind macvlan"),
            ("VLAN", of_kind("vlan"), &[Tc, Native, Generic], "kind vlan"),
            ("bond", of_kind("bond"), &[Tc, Native, Generic], "kind bond"),
            ("a card with a program", foreign(card("ixgbe")), &[Tc], "number 7"),
            ("veth with a program", foreign(of_kind("veth")), &[Tc], "number 7"),
            ("a card, no tcx", old(card("ixgbe")), &[Native, Generic], "the driver runs XDP"),
            ("veth, no tcx", old(of_kind("veth")), &[Native, Generic], "the driver runs XDP"),
            (
                "a bridge, no tcx",
                old(Facts { native_xdp: Some(false), ..of_kind("bridge") }),
                &[Generic, Native],
                "nothing better",
            ),
            ("a card with a program, no tcx", old(foreign(card("ixgbe"))), &[Native, Generic], "runs XDP"),
        ];
        for (what, facts, wanted, why) in table {
            let choices = modes(Datapath::Auto, facts);
            let found: Vec<_> = choices.iter().map(|choice| choice.mode).collect();
            assert_eq!(found, *wanted, "{what}");
            assert!(choices[0].why.contains(why), "{what}: {}", choices[0].why);
            assert_eq!(best(facts), choices[0], "{what}");
        }
    }

    #[test]
    fn what_cannot_be_sent_on_is_warned_of() {
        let facts = Facts { joins_for_good: true, ..card("ixgbe") };
        for choice in modes(Datapath::Auto, &facts).into_iter().chain(modes(Datapath::Tc, &facts)) {
            assert_eq!(choice.why.contains("lro off"), choice.mode == Mode::Tc, "{choice:?}");
        }
    }

    #[test]
    fn what_is_asked_for_is_all_that_is_tried() {
        for (asked, mode) in
            [(Datapath::Xdp, Mode::Native), (Datapath::XdpGeneric, Mode::Generic), (Datapath::Tc, Mode::Tc)]
        {
            for facts in [Facts::default(), card("ixgbe"), of_kind("veth")] {
                let choices = modes(asked, &facts);
                assert_eq!(choices.len(), 1);
                assert_eq!((choices[0].mode, choices[0].why.as_str()), (mode, "the configuration asks for it"));
            }
        }
    }
}
