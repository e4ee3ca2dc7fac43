//! Which addresses are ours: makes the mark and recognises it, also after a crash.
//!
//! The mark is the address protocol (`IFA_PROTO`, since Linux 5.18) and, for older kernels, which ignore it, another: over IPv4
//! the label `INTERFACE:xvip` where that fits, over IPv6, which has no labels, a metric of the address's route, which it does not
//! have. To take a foreign address for ours would remove it from its owner; to take ours for foreign
//! leaves an address behind. The first is worse, so an address without either mark is never ours, even if it is a VIP.

use lb_proto::family::Family;
use rtnetlink::packet_route::address::{AddressAttribute, AddressProtocol};

/// Our value of `IFA_PROTO`; the kernel uses 1 to 3, and iproute2's list of known ones ends below.
pub const PROTOCOL: u8 = 118;

/// `xvip` in ASCII.
const METRIC: u32 = 0x7876_6970;
const SUFFIX: &str = ":xvip";
/// `IFNAMSIZ` without the terminating zero.
const LONGEST_LABEL: usize = 15;

/// What to add to an address of ours on the interface of this name.
pub(super) fn mark(interface: &str, family: Family) -> Vec<AddressAttribute> {
    let protocol = AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL));
    let label = format!("{interface}{SUFFIX}");
    let older = match family {
        Family::V4 => (label.len() <= LONGEST_LABEL).then_some(AddressAttribute::Label(label)),
        Family::V6 => Some(AddressAttribute::RoutePriority(METRIC)),
    };
    [protocol].into_iter().chain(older).collect()
}

/// Whether an address with these attributes is ours.
pub(super) fn is_marked(attributes: &[AddressAttribute]) -> bool {
    attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Protocol(protocol) => u8::from(*protocol) == PROTOCOL,
        AddressAttribute::Label(label) => label.ends_with(SUFFIX),
        AddressAttribute::RoutePriority(metric) => *metric == METRIC,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_marked_is_recognised() {
        for interface in ["eth0", "enp0s31f6", "0123456789", "a-longer-name"] {
            let fits = interface.len() + SUFFIX.len() <= LONGEST_LABEL;
            for (family, parts) in [(Family::V4, 1 + usize::from(fits)), (Family::V6, 2)] {
                let mark = mark(interface, family);
                assert!(is_marked(&mark), "{interface}");
                assert_eq!(mark.len(), parts, "{interface} {family}");
                for attribute in mark {
                    assert!(is_marked(std::slice::from_ref(&attribute)), "each part alone: {attribute:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_marked_is_foreign() {
        let foreign = [
            AddressAttribute::Label("eth0".to_owned()),
            AddressAttribute::Label("eth0:1".to_owned()),
            AddressAttribute::RoutePriority(256),
            AddressAttribute::Protocol(AddressProtocol::Loopback),
            AddressAttribute::Protocol(AddressProtocol::Other(18)),
        ];
        assert!(!is_marked(&foreign));
        assert!(!is_marked(&[]));
    }
}
