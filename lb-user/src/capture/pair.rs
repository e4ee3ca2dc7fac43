//! Packets as they enter and leave put together again: what the datapath makes of each.

use std::net::IpAddr;

use lb_ebpf::abi::{Captured, Reason, Verdict, place};

use super::heading;

/// A packet as it was shown once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) about: Captured,
    pub(super) frame: Vec<u8>,
}

impl Shown {
    /// From the bytes of one event.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let about = Captured::read(bytes)?;
        let frame = bytes.get(size_of::<Captured>()..)?;
        // The kernel fills up what it hands over.
        let kept = frame.len().min(about.kept as usize);
        Some(Self { about, frame: frame[..kept].to_vec() })
    }
}

/// A packet as it entered and as it left; one of them is missing where the kernel had no room for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) entered: Option<Shown>,
    pub(super) left: Option<Shown>,
}

impl Seen {
    /// When, in nanoseconds of the kernel's monotonic clock.
    pub(super) fn at(&self) -> u64 {
        self.entered.as_ref().or(self.left.as_ref()).map_or(0, |shown| shown.about.at)
    }

    /// Where it was looked at.
    pub(super) fn place(&self) -> &'static str {
        let shown = self.entered.as_ref().or(self.left.as_ref());
        place_label(shown.map_or(u32::MAX, |shown| shown.about.place))
    }

    /// Why it ended as it did; none where it was not counted, or is not known.
    pub(super) fn reason(&self) -> Option<Reason> {
        Reason::ALL.get(self.left.as_ref()?.about.reason as usize).copied()
    }

    /// Whether it is other people's, which the datapath lets pass.
    pub(super) fn passes_by(&self) -> bool {
        let is_theirs = |reason: Reason| reason.verdict() == Verdict::Pass && reason != Reason::VipClaimed;
        self.left.is_some() && self.reason().is_none_or(is_theirs)
    }

    /// Whether it comes from or goes to an address that `is_meant`, before or after.
    pub(super) fn concerns(&self, is_meant: impl Fn(IpAddr) -> bool) -> bool {
        let ends =
            [&self.entered, &self.left].into_iter().flatten().filter_map(|shown| heading::addresses(&shown.frame));
        ends.flat_map(|(source, destination)| [source, destination]).any(is_meant)
    }

    /// How it ended: verdict and reason.
    pub(super) fn outcome(&self) -> String {
        match (&self.left, self.reason()) {
            (_, Some(reason)) => format!("{} {}", reason.verdict().label(), reason.label()),
            (Some(_), None) => "pass".to_owned(),
            (None, None) => "not known".to_owned(),
        }
    }

    /// What goes on, where something does: itself, translated, or the answer that was made of it.
    pub(super) fn result(&self) -> Option<&Shown> {
        self.left.as_ref().filter(|_| self.reason().is_some_and(|reason| reason.verdict() != Verdict::Drop))
    }

    /// It as a line.
    pub(super) fn line(&self) -> String {
        let frame = |shown: &Shown| heading::words(&shown.frame);
        let entered = self.entered.as_ref().map_or_else(|| "?".to_owned(), frame);
        let mut line = format!("{:<5} {entered}  ->  {}", self.place(), self.outcome());
        if let Some(left) = self.result().map(frame).filter(|left| *left != entered) {
            line.push_str(": ");
            line.push_str(&left);
        }
        line
    }
}

/// What a place is called.
pub(super) const fn place_label(number: u32) -> &'static str {
    match number {
        place::XDP => "xdp",
        place::TC => "tc",
        place::LEAVING => "leave",
        place::HOME => "home",
        _ => "?",
    }
}

/// What is put together, apart for each CPU: no packet interrupts another one there.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    waiting: Vec<Option<Shown>>,
}

impl Pairs {
    /// The packets that are complete with what a CPU shows next.
    pub(super) fn take(&mut self, cpu: usize, shown: Shown) -> Vec<Seen> {
        if self.waiting.len() <= cpu {
            self.waiting.resize(cpu + 1, None);
        }
        let before = self.waiting[cpu].take();
        let alone = |shown: Shown| match shown.about.leaves {
            0 => Seen { entered: Some(shown), left: None },
            _ => Seen { entered: None, left: Some(shown) },
        };
        match (before, shown.about.leaves) {
            (before, 0) => {
                self.waiting[cpu] = Some(shown);
                before.map(alone).into_iter().collect()
            }
            (Some(entered), _) if entered.about.place == shown.about.place => {
                vec![Seen { entered: Some(entered), left: Some(shown) }]
            }
            (before, _) => before.into_iter().chain([shown]).map(alone).collect(),
        }
    }

    /// The kernel had no room for something: what waits is not continued by what comes.
    pub(super) fn lost(&mut self, cpu: usize) -> Option<Seen> {
        let entered = self.waiting.get_mut(cpu)?.take()?;
        Some(Seen { entered: Some(entered), left: None })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::heading::tests::segment;
    use super::*;

    pub(in crate::capture) fn shown(leaves: u32, reason: u32, frame: &[u8]) -> Shown {
        let length = frame.len() as u32;
        let about = Captured { at: 7, length, kept: length, action: 0, reason, place: place::TC, leaves };
        Shown { about, frame: frame.to_vec() }
    }

    #[test]
    fn what_enters_and_leaves_is_one_packet() {
        let (before, after) = (segment([1; 4], [2; 4], 2), segment([2; 4], [3; 4], 2));
        let mut pairs = Pairs::default();
        assert_eq!(pairs.take(1, shown(0, u32::MAX, &before)), []);
        assert_eq!(pairs.take(0, shown(0, u32::MAX, &after)), []);
        let forwarded = shown(1, Reason::ToBackend as u32, &after);
        let seen = pairs.take(1, forwarded.clone());
        let expected = Seen { entered: Some(shown(0, u32::MAX, &before)), left: Some(forwarded) };
        assert_eq!(seen, std::slice::from_ref(&expected));
        assert!(expected.concerns(|address| address == IpAddr::from([1; 4])));
        assert!(expected.concerns(|address| address == IpAddr::from([3; 4])));
        assert!(!expected.concerns(|address| address == IpAddr::from([4; 4])));
        assert!(!expected.passes_by());
        assert_eq!(
            expected.line(),
            format!(
                "tc    1.1.1.1:40000 > 2.2.2.2:8443 SYN, 3 bytes  ->  {}: 2.2.2.2:40000 > 3.3.3.3:8443 SYN, 3 bytes",
                expected.outcome()
            )
        );
    }

    #[test]
    fn what_is_lost_leaves_the_rest_as_it_is() {
        let frame = segment([1; 4], [2; 4], 2);
        let (enters, leaves) = (shown(0, u32::MAX, &frame), shown(1, Reason::NoFlow as u32, &frame));
        let mut pairs = Pairs::default();
        // The end of the first, and the beginning of the second.
        pairs.take(0, enters.clone());
        assert_eq!(pairs.take(0, enters.clone()), [Seen { entered: Some(enters.clone()), left: None }]);
        assert_eq!(pairs.lost(0), Some(Seen { entered: Some(enters), left: None }));
        assert_eq!((pairs.lost(0), pairs.lost(9)), (None, None));
        assert_eq!(pairs.take(0, leaves.clone()), [Seen { entered: None, left: Some(leaves) }]);
    }

    #[test]
    fn a_packet_of_others_passes_by() {
        let frame = segment([1; 4], [2; 4], 2);
        let of = |reason: u32| Seen { entered: Some(shown(0, u32::MAX, &frame)), left: Some(shown(1, reason, &frame)) };
        assert!(of(u32::MAX).passes_by() && of(Reason::NotIp as u32).passes_by() && of(9999).passes_by());
        assert!(!of(Reason::NoBackend as u32).passes_by());
        // A drop goes nowhere, and what passes is as it was.
        let dropped = Reason::ALL.iter().find(|reason| reason.verdict() == Verdict::Drop).unwrap();
        assert!(of(*dropped as u32).result().is_none());
        assert_eq!(of(u32::MAX).line(), "tc    1.1.1.1:40000 > 2.2.2.2:8443 SYN, 3 bytes  ->  pass");
    }

    #[test]
    fn events_of_any_length_are_read() {
        let frame = segment([1; 4], [2; 4], 2);
        let bytes = |about: Captured, frame: &[u8]| {
            let mut bytes = about.at.to_ne_bytes().to_vec();
            for word in [about.length, about.kept, about.action, about.reason, about.place, about.leaves] {
                bytes.extend(word.to_ne_bytes());
            }
            bytes.extend(frame);
            bytes
        };
        let mut padded = frame.clone();
        padded.extend([0; 4]);
        let expected = shown(0, 3, &frame);
        assert_eq!(Shown::read(&bytes(expected.about, &padded)), Some(expected.clone()));
        let short = Shown::read(&bytes(expected.about, &frame[..5])).unwrap();
        assert_eq!(short.frame, frame[..5]);
        assert_eq!(Shown::read(&[0; 31]), None);
    }
}
