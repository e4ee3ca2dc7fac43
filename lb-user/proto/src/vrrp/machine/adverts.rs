//! What an advert from another router does: the checks of RFC 9568 section 7.1, the rules of 6.4.2 and 6.4.3.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Active, Backup, Instance, Phase};
use crate::family::Family;
use crate::units::{Centis, WirePriority};
use crate::vrrp::output::{AdvertFault, Announcement, Mismatch, Output, Why};
use crate::vrrp::timers::{LEARNED_RANGE, doubted, living_silence};
use crate::wire::ipv4::TTL;
use crate::wire::vrrp::Advert;

/// Announcements are at least this far apart: a burst younger than that still has most of its rounds to come, and a
/// flood of forged adverts must not become a flood of ARP.
const ANNOUNCE_GAP: Duration = Duration::from_secs(1);
/// Adverts answered per interval at most, for the same reason.
const ANSWERS_PER_INTERVAL: u32 = 4;

impl Instance {
    /// An advert from `src` with this TTL or hop limit is handed in. `heard` is when it reached this host, which is what
    /// counts for timers: a process that was late to read it has not lost its sender.
    pub fn on_advert(&mut self, src: impl Into<IpAddr>, ttl: u8, advert: &Advert, heard: Instant, now: Instant) {
        let (src, heard) = (src.into(), heard.min(now));
        self.notice_sleep(now);
        if let Err(fault) = self.admit(src, ttl, advert) {
            self.out.push_back(Output::Rejected { src, fault });
            return;
        }
        self.compare(src, advert);
        match self.phase {
            Phase::Backup(backup) => {
                // Older than the state: who listens anew listens for a whole while.
                let backup = self.heard_as_backup(backup, src, advert, heard.max(self.since), now);
                self.phase = Phase::Backup(backup);
            }
            Phase::Active(active) => self.heard_as_active(active, src, advert, heard, now),
            Phase::Leaving(leaving) => self.heard_while_leaving(leaving, src, advert, heard, now),
            Phase::Initialize | Phase::Fault => {}
        }
    }

    /// RFC 9568 section 7.1, and what keeps strangers out.
    fn admit(&self, src: IpAddr, ttl: u8, advert: &Advert) -> Result<(), AdvertFault> {
        if matches!(self.phase, Phase::Initialize | Phase::Fault) {
            return Err(AdvertFault::NotRunning);
        }
        if ttl != TTL {
            return Err(AdvertFault::Ttl(ttl));
        }
        if advert.vrid != self.cfg.vrid {
            return Err(AdvertFault::Vrid);
        }
        if self.cfg.primary == Some(src) {
            return Err(AdvertFault::OwnAddress);
        }
        let broadcast = matches!(src, IpAddr::V4(src) if src.is_broadcast());
        if Family::of(src) != self.cfg.family() || src.is_unspecified() || src.is_multicast() || broadcast {
            return Err(AdvertFault::Source);
        }
        if !self.cfg.peers.is_empty() && !self.cfg.peers.contains(&src) {
            return Err(AdvertFault::NotPeer);
        }
        Ok(())
    }

    fn compare(&mut self, src: IpAddr, advert: &Advert) {
        let differs = [
            (!advert.addresses.same_set(&self.cfg.addresses), Mismatch::Addresses),
            (advert.interval != self.cfg.advert_interval, Mismatch::Interval),
        ];
        for (_, mismatch) in differs.into_iter().filter(|(differs, _)| *differs) {
            self.out.push_back(Output::Mismatch { src, mismatch });
        }
    }

    /// RFC 9568 section 6.4.2.
    fn heard_as_backup(
        &mut self, backup: Backup, src: IpAddr, advert: &Advert, heard: Instant, now: Instant,
    ) -> Backup {
        if advert.priority == WirePriority::RELEASE {
            // Only the router that holds the addresses can release them; a late copy from a former one must not
            // make us contest its successor.
            if backup.heard.is_some_and(|heard| heard != src) {
                return backup;
            }
            let expires = backup.expires.min(heard + self.cfg.skew(backup.interval));
            return Backup { expires, heard: None, cause: Why::Released, lower_since: None, ..backup };
        }
        let interval = self.learn(src, advert.interval, heard);
        let shortest = self.cfg.advert_interval.duration() / u32::from(LEARNED_RANGE);
        if backup.doubted.is_some_and(|claimed| heard < claimed + shortest) {
            // No router advertises this often: a burst proves no more than one advert.
            return backup;
        }
        let lower = advert.priority < self.cfg.priority.into();
        let lower_since = lower.then(|| backup.lower_since.unwrap_or(heard));
        let patience = lower_since.map(|since| heard.saturating_duration_since(since) < self.cfg.delay());
        if self.preempts(heard) && patience == Some(false) {
            // Discarded, so that the timer runs out.
            return Backup { heard: Some(src), cause: Why::Preempted, lower_since, ..backup };
        }
        // Read this late, the queue may have been too full for what came last.
        let late = now >= backup.expires && !backup.ready;
        let excused =
            if late { Some(now + living_silence(interval)) } else { backup.excused.filter(|until| *until > now) };
        let expires = heard + self.cfg.down(interval);
        Backup {
            expires: excused.map_or(expires, |until| expires.max(until)),
            interval,
            heard: Some(src),
            cause: Why::Silence,
            lower_since,
            excused,
            ready: false,
            doubted: None,
        }
    }

    /// RFC 9568 section 6.4.3.
    fn heard_as_active(&mut self, active: Active, src: IpAddr, advert: &Advert, heard: Instant, now: Instant) {
        if advert.priority == WirePriority::RELEASE {
            self.assert_claim(active, Announcement::ReleaseHeard, now);
            return;
        }
        let interval = self.learn(src, advert.interval, heard);
        // Of one family, so that addresses compare as the numbers they are on the wire.
        let ours = (WirePriority::from(self.cfg.priority), self.cfg.source());
        if (advert.priority, Some(src)) <= ours {
            self.assert_claim(active, Announcement::Contested, now);
            return;
        }
        let mut backup = self.following(src, interval, now);
        // Who has been heard often enough to be believed a longer interval has sent more than this.
        if !self.cfg.authenticated && interval <= self.cfg.advert_interval {
            backup.expires = backup.expires.min(now + doubted(self.cfg.advert_interval));
            backup.doubted = Some(now);
        }
        self.enter(Phase::Backup(backup), Why::Outranked { by: src, priority: advert.priority }, now);
    }

    /// The Backup of a router that has just claimed the addresses.
    pub(super) fn following(&self, src: IpAddr, interval: Centis, now: Instant) -> Backup {
        Backup { interval, expires: now + self.cfg.down(interval), heard: Some(src), ..self.listening(now) }
    }

    /// Answers a lesser claim with an advert, at once or as soon as the pace allows, and has the addresses announced
    /// unless that was just done.
    fn assert_claim(&mut self, mut active: Active, why: Announcement, now: Instant) {
        if now.saturating_duration_since(active.announced) >= ANNOUNCE_GAP {
            active.announced = now;
            self.out.push_back(Output::Announce(why));
        }
        let allowed = active.sent + self.cfg.advert_interval.duration() / ANSWERS_PER_INTERVAL;
        if now >= allowed {
            self.advertise(active, now);
        } else {
            active.next = active.next.min(allowed);
            self.phase = Phase::Active(active);
        }
    }
}
