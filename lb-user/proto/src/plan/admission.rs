//! Allow lists: written whole beside the one in use, then switched to, as rounds are.

use std::collections::{BTreeMap, BTreeSet};

use lb_ebpf::abi::{MAX_ALLOWED, MAX_SERVICES};
use lb_ebpf::net::Be128;

use super::{Observed, Op, TooMuch, Wanted, WantedService};

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The first of them.
    pub address: Be128,
    /// How many bits of an address of IPv6; IPv4's begin behind 96.
    pub bits: u8,
}

/// Which list each service gets, and what has to be written.
pub(super) struct Lists<'a> {
    observed: &'a Observed,
    /// Lists that services use now.
    in_use: BTreeSet<u32>,
    /// What the lists of the services to be are to hold.
    wanted: BTreeMap<u32, &'a BTreeSet<Prefix>>,
}

impl<'a> Lists<'a> {
    pub(super) fn new(wanted: &Wanted, observed: &'a Observed) -> Result<Self, TooMuch> {
        let prefixes: usize = wanted.services.iter().map(|service| service.allow.len()).sum();
        if prefixes > MAX_ALLOWED as usize {
            return Err(TooMuch::Allowed);
        }
        let in_use = observed.services.values().map(|service| service.allow).filter(|list| *list != 0).collect();
        Ok(Self { observed, in_use, wanted: BTreeMap::new() })
    }

    /// The list of a service; 0: everyone is allowed.
    pub(super) fn place(&mut self, service: &'a WantedService, number: u16) -> u32 {
        if service.allow.is_empty() {
            return 0;
        }
        let holds = |list: &u32| self.observed.allowed.get(list) == Some(&service.allow);
        let mut active = service.places().filter_map(|at| self.observed.services.get(at)).map(|value| value.allow);
        let list = active.find(|list| *list != 0 && !self.wanted.contains_key(list) && holds(list));
        // Two for each service: more than there can be in use, as long as no plan was left half done.
        let first = 1 + 2 * u32::from(number);
        let own = || [first, first + 1].into_iter();
        let free = || {
            own()
                .chain(1..=2 * MAX_SERVICES)
                .find(|list| !self.in_use.contains(list) && !self.wanted.contains_key(list))
        };
        let list = list.or_else(free).unwrap_or(first);
        self.wanted.insert(list, &service.allow);
        list
    }

    /// What to do before services are switched to their lists, and afterwards.
    pub(super) fn ops(&self) -> (Vec<Op>, Vec<Op>) {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (list, prefixes) in &self.observed.allowed {
            let wanted = self.wanted.get(list).copied();
            let superfluous = prefixes.iter().filter(|prefix| wanted.is_none_or(|wanted| !wanted.contains(prefix)));
            let ops = superfluous.map(|prefix| Op::Disallow(*list, *prefix));
            // What nobody uses must be right before somebody does; what somebody uses must not lack anyone meanwhile.
            if self.in_use.contains(list) { after.extend(ops) } else { before.extend(ops) }
        }
        for (list, wanted) in &self.wanted {
            let here = self.observed.allowed.get(list);
            let missing = wanted.iter().filter(|prefix| here.is_none_or(|here| !here.contains(prefix)));
            before.extend(missing.map(|prefix| Op::Allow(*list, *prefix)));
        }
        (before, after)
    }
}
