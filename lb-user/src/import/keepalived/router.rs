//! `vrrp_instance` and what belongs to it, but for `vrrp_sync_group`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::note::{Notes, Place, nearest};
use super::script::{Scripts, Track, Tracked, seconds, weight_of};
use super::{Statement, words};

/// Bytes of a password that travel (RFC 3768 has 8).
const PASSWORD: usize = 8;

/// A `vrrp_instance` with at least one address.
#[derive(Debug, Clone)]
pub(in crate::import) struct Router {
    pub(in crate::import) place: Place,
    pub(in crate::import) name: String,
    /// `None`: not said.
    pub(in crate::import) interface: Option<String>,
    pub(in crate::import) id: u8,
    pub(in crate::import) priority: u8,
    /// It is keepalived's own, for the file has none.
    pub(in crate::import) usual_priority: bool,
    /// 2 or 3.
    pub(in crate::import) version: u8,
    pub(in crate::import) advert: Duration,
    pub(in crate::import) password: Option<String>,
    pub(in crate::import) preempt: bool,
    pub(in crate::import) preempt_delay: Option<Duration>,
    pub(in crate::import) source: Option<IpAddr>,
    pub(in crate::import) peers: Vec<(Place, IpAddr)>,
    /// With prefix lengths, all of one family.
    pub(in crate::import) addresses: Vec<(Place, IpAddr, u8)>,
    /// Addresses that come and go with them without being advertised.
    pub(in crate::import) excluded: Vec<(IpAddr, u8)>,
    pub(in crate::import) tracks: Vec<Track>,
    /// What nobody but the administrator knows of its addresses.
    pub(in crate::import) open: Vec<String>,
}

impl Router {
    /// Its addresses alone.
    pub(in crate::import) fn vips(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(|(_, address, _)| *address)
    }
}

/// What a statement says to all routers.
#[derive(Debug, Default)]
struct Globals {
    version: Option<u8>,
    interface: Option<String>,
}

/// The routers of a configuration.
pub(in crate::import) fn read(tree: &[Statement], scripts: &mut Scripts<'_>, notes: &mut Notes) -> Vec<Router> {
    let mut globals = Globals::default();
    for statement in tree.iter().filter(|statement| statement.word(0) == "global_defs") {
        statement.within().iter().for_each(|line| globals.read(line, notes));
    }
    let mut routers: Vec<Router> = Vec::new();
    let mut seen: BTreeMap<&str, &Place> = BTreeMap::new();
    for statement in tree {
        let (place, name) = (&statement.place, statement.word(1));
        match statement.word(0) {
            // The others read these.
            "global_defs" | "vrrp_script" | "vrrp_sync_group" | "virtual_server" => {}
            "vrrp_instance" => match seen.get(name) {
                Some(first) => {
                    let what =
                        format!("vrrp_instance {name} is in {first} already: keepalived skips this one; left out");
                    notes.mistake(place, what);
                }
                None => {
                    seen.insert(name, place);
                    routers.extend(Draft::read(statement, &globals, scripts, notes));
                }
            },
            keyword => match words::top(keyword) {
                Some(why) => notes.lost(place, statement.text(), why),
                None => {
                    let near = nearest(keyword, words::TOP);
                    notes.fault(place, format!("\"{keyword}\" is unknown here{near}"));
                }
            },
        }
    }
    routers
}

impl Globals {
    fn read(&mut self, line: &Statement, notes: &mut Notes) {
        let place = &line.place;
        match line.word(0) {
            "vrrp_version" => self.version = number(line, 2..=3, notes),
            "default_interface" => self.interface = Some(line.word(1).to_owned()),
            keyword => match words::global(keyword) {
                Some(why) => notes.lost(place, line.text(), why),
                None => {
                    let near = nearest(keyword, words::globals());
                    notes.fault(place, format!("\"{keyword}\" is no keyword of global_defs{near}"));
                }
            },
        }
    }
}

/// An instance as its lines are read.
#[derive(Debug, Default)]
struct Draft {
    master: Option<Place>,
    interface: Option<String>,
    id: Option<u8>,
    priority: Option<u8>,
    version: Option<u8>,
    advert: Option<(Place, Duration)>,
    password: Option<(Place, String)>,
    no_preempt: Option<Place>,
    preempt_delay: Option<(Place, Duration)>,
    source: Option<(Place, IpAddr)>,
    multicast_source: Option<(Place, IpAddr)>,
    peers: Vec<(Place, IpAddr)>,
    addresses: Vec<(Place, IpAddr, u8)>,
    excluded: Vec<(Place, IpAddr, u8)>,
    /// Place, device.
    devices: Vec<(Place, IpAddr, String)>,
    tracks: Vec<Track>,
    no_address: bool,
}

impl Draft {
    fn read(statement: &Statement, globals: &Globals, scripts: &mut Scripts<'_>, notes: &mut Notes) -> Option<Router> {
        let mut draft = Draft::default();
        for line in statement.within() {
            draft.line(line, scripts, notes);
            match line.word(0) {
                "state" | "interface" | "virtual_router_id" | "priority" | "version" | "advert_int"
                | "preempt_delay" | "mcast_src_ip" | "unicast_src_ip" => surplus(line, 2, notes),
                "nopreempt" | "preempt" => surplus(line, 1, notes),
                _ => {}
            }
        }
        draft.whole(statement, globals, notes)
    }

    fn line(&mut self, line: &Statement, scripts: &mut Scripts<'_>, notes: &mut Notes) {
        let place = || line.place.clone();
        match line.word(0) {
            "state" => match line.word(1) {
                "MASTER" => {
                    self.master = Some(place());
                    let why = "xvip begins as backup, and the priorities decide; it takes one master-down interval";
                    notes.lost(&line.place, line.text(), why);
                }
                "BACKUP" => {}
                other => notes.fault(&line.place, format!("state \"{other}\" is not MASTER or BACKUP")),
            },
            "interface" => self.interface = Some(line.word(1).to_owned()),
            "virtual_router_id" => self.id = once(self.id, line, notes),
            "priority" => self.priority = once(self.priority, line, notes),
            "version" => self.version = number(line, 2..=3, notes),
            "advert_int" => match seconds(line.word(1)) {
                Some(time) if !time.is_zero() => self.advert = Some((place(), time)),
                _ => notes.fault(&line.place, format!("advert_int \"{}\" is not a number of seconds", line.word(1))),
            },
            "authentication" => self.authentication(line, notes),
            "nopreempt" => self.no_preempt = Some(place()),
            "preempt" => self.no_preempt = None,
            "preempt_delay" => match seconds(line.word(1)) {
                Some(time) => self.preempt_delay = Some((place(), time)),
                None => {
                    notes.fault(&line.place, format!("preempt_delay \"{}\" is not a number of seconds", line.word(1)))
                }
            },
            "mcast_src_ip" => self.multicast_source = address(line, line.word(1), notes).map(|at| (place(), at)),
            "unicast_src_ip" => self.source = address(line, line.word(1), notes).map(|at| (place(), at)),
            "unicast_peer" => self.peers(line, notes),
            "virtual_ipaddress" => self.virtual_addresses(line, false, notes),
            "virtual_ipaddress_excluded" => self.virtual_addresses(line, true, notes),
            "no_virtual_ipaddress" => self.no_address = true,
            "track_script" => {
                self.tracks.extend(entries(line).iter().filter_map(|entry| scripts.track(entry, notes)));
            }
            "track_interface" => self.tracks.extend(entries(line).iter().map(|entry| interface(entry, notes))),
            "track_process" => {
                let of: Vec<_> = entries(line).iter().map(Statement::text).collect();
                let why =
                    "the datapath is in the kernel, and a node whose agent is gone stops claiming its VIPs by itself";
                notes.lost(&line.place, format!("track_process {}", of.join(", ")), why);
            }
            keyword => match words::instance(keyword) {
                Some(why) => notes.lost(&line.place, line.text(), why),
                None => {
                    let near = nearest(keyword, words::instances());
                    notes.fault(&line.place, format!("\"{keyword}\" is no keyword of vrrp_instance{near}"));
                }
            },
        }
    }

    fn authentication(&mut self, line: &Statement, notes: &mut Notes) {
        for line in line.within() {
            match (line.word(0), line.word(1)) {
                ("auth_type", "PASS" | "pass" | "SIMPLE" | "simple" | "none" | "NONE") => {}
                ("auth_type", kind @ ("AH" | "ah")) => {
                    let why = "IPsec's header was taken out of VRRP by RFC 3768, and xvip and such routers do not hear each \
                               other; auth_key_file authenticates adverts among xvip nodes";
                    notes.lost(&line.place, format!("auth_type {kind}"), why);
                }
                ("auth_pass", pass @ ("" | "!")) => {
                    notes.fault(&line.place, format!("auth_pass {pass} is without a password"))
                }
                ("auth_pass", pass) => self.password = Some((line.place.clone(), pass.to_owned())),
                (other, _) => {
                    let near = nearest(other, ["auth_type", "auth_pass"]);
                    notes.fault(&line.place, format!("\"{other}\" is unknown or wrong in authentication{near}"));
                }
            }
        }
    }

    fn peers(&mut self, line: &Statement, notes: &mut Notes) {
        for entry in entries(line) {
            let mut words = entry.words.iter().map(String::as_str);
            while let Some(word) = words.next() {
                if matches!(word, "min_ttl" | "max_ttl") {
                    notes.lost(&entry.place, word, "adverts have to arrive with TTL 255, as RFC 9568 wants");
                    words.next();
                    continue;
                }
                let bare = word.trim_end_matches([',', ';']);
                if bare != word {
                    let what = format!(
                        "the sign after {bare} is part of the address for keepalived, which skips this peer and sends it no \
                         adverts; carried over without it"
                    );
                    notes.mistake(&entry.place, what);
                }
                for word in bare.split(',') {
                    self.peers.extend(address(&entry, word, notes).map(|address| (entry.place.clone(), address)));
                }
            }
        }
    }

    fn virtual_addresses(&mut self, line: &Statement, excluded: bool, notes: &mut Notes) {
        for entry in entries(line) {
            let word = entry.word(0);
            let bare = word.trim_end_matches([',', ';']);
            if bare != word {
                notes.mistake(
                    &entry.place,
                    format!("the sign after {bare} is part of the address for keepalived; carried over without it"),
                );
            }
            let (text, prefix) = bare.split_once('/').map_or((bare, None), |(text, prefix)| (text, Some(prefix)));
            let Some(address) = address(&entry, text, notes) else { continue };
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let prefix = match prefix.map(str::parse) {
                None => longest,
                Some(Ok(prefix)) if (1..=longest).contains(&prefix) => prefix,
                Some(_) => {
                    notes.fault(&entry.place, format!("\"{bare}\" has a wrong prefix length; write 1 to {longest}"));
                    continue;
                }
            };
            let mut options = entry.words.iter().skip(1).map(String::as_str);
            while let Some(option) = options.next() {
                let why = match option {
                    "dev" => {
                        let device = options.next().map(|device| (entry.place.clone(), address, device.to_owned()));
                        self.devices.extend(device.filter(|_| !excluded));
                        continue;
                    }
                    "home" | "nodad" | "mngtmpaddr" | "noprefixroute" | "autojoin" | "no_track" | "-nodad"
                    | "use-vmac" => {
                        notes.lost(&entry.place, option, "xvip brings each VIP in the same way");
                        continue;
                    }
                    "label" => "VIPs have no labels",
                    "brd" | "broadcast" => "VIPs have no broadcast address of their own",
                    "scope" => "VIPs are addresses of global scope",
                    "peer" | "preferred_lft" | "track_group" | "to" => "xvip brings each VIP in the same way",
                    other => {
                        let bare = other.trim_end_matches([',', ';']);
                        let is_address = bare.split('/').next().is_some_and(|text| text.parse::<IpAddr>().is_ok());
                        let what = match is_address {
                            true => format!("one address a line: keepalived ignores {bare}"),
                            false => format!("keepalived ignores \"{other}\", which is no option of an address"),
                        };
                        notes.mistake(&entry.place, what);
                        continue;
                    }
                };
                let value = options.next().unwrap_or_default();
                notes.lost(&entry.place, format!("{option} {value}").trim_end(), why);
            }
            let into = if excluded { &mut self.excluded } else { &mut self.addresses };
            into.push((entry.place.clone(), address, prefix));
        }
    }

    fn whole(mut self, statement: &Statement, globals: &Globals, notes: &mut Notes) -> Option<Router> {
        let (place, name) = (&statement.place, statement.word(1).to_owned());
        if name.is_empty() {
            notes.fault(place, "vrrp_instance is without a name");
        }
        // The first decides; keepalived takes the others for excluded ones.
        let is_ipv4 = self.addresses.first().is_none_or(|(_, address, _)| address.is_ipv4());
        let (addresses, others): (Vec<_>, Vec<_>) =
            self.addresses.into_iter().partition(|(_, address, _)| address.is_ipv4() == is_ipv4);
        self.excluded.extend(others);
        for (place, address, prefix) in &self.excluded {
            let why = "a [[vrrp]] advertises all its addresses, and other routers of the group would not know this one; it \
                       gets a [[vrrp]] of its own, with a virtual_router_id that nobody has, on all nodes at once";
            notes.lost(place, format!("{address}/{prefix}, which is not advertised"), why);
        }
        let Some(id) = self.id else {
            notes.fault(place, format!("vrrp_instance {name} is without a virtual_router_id"));
            return None;
        };
        if addresses.is_empty() && self.no_address {
            notes.lost(place, statement.text(), "it has no addresses, and a [[vrrp]] has one at least");
            return None;
        }
        if addresses.is_empty() {
            notes.fault(place, format!("vrrp_instance {name} has no address in virtual_ipaddress"));
            return None;
        }
        // keepalived's default is version 2, which has no IPv6.
        let version = self.version.or(globals.version).filter(|_| is_ipv4).unwrap_or(if is_ipv4 { 2 } else { 3 });
        let interface = self.interface.or_else(|| globals.interface.clone());
        let elsewhere = self.devices.iter().filter(|(.., device)| Some(device) != interface.as_ref());
        let open = elsewhere.map(|(place, address, device)| {
            format!("{address} is at {device} in {place}, and VIPs are at the interface of their [[vrrp]]: is that the right one?")
        });
        let open = open.collect();
        if let (Some(no_preempt), Some(_)) = (&self.no_preempt, &self.master) {
            let what = "nopreempt has no effect with state MASTER, keepalived takes the VIP whenever it starts; carried over as \
                        meant, preempt = false";
            notes.mistake(no_preempt, what);
        }
        if let (Some((place, _)), Some(_)) = (&self.preempt_delay, &self.no_preempt) {
            notes.mistake(place, "preempt_delay has no effect with nopreempt");
        }
        let advert = match &self.advert {
            Some((place, time)) => advert(place, *time, version, notes),
            None => Duration::from_secs(1),
        };
        let source = match (self.source, self.multicast_source) {
            (Some((_, source)), Some((place, other))) => {
                if source != other {
                    notes.lost(&place, format!("mcast_src_ip {other}"), "adverts come from unicast_src_ip");
                }
                Some(source)
            }
            (source, other) => source.or(other).map(|(_, source)| source),
        };
        let mut peers: Vec<(Place, IpAddr)> = Vec::new();
        for (place, peer) in self.peers {
            if Some(peer) == source {
                notes.mistake(&place, format!("{peer} is this node itself, no peer; left out"));
            } else if peers.iter().any(|(_, other)| *other == peer) {
                notes.mistake(&place, format!("{peer} is listed twice"));
            } else {
                peers.push((place, peer));
            }
        }
        let priority = match (self.priority, &self.master) {
            (Some(priority), _) => priority,
            (None, Some(place)) => {
                let what = "state MASTER without a priority is priority 255 for keepalived, that of who owns the address; 254 is \
                            written, the most of one that waits for others; give each node another";
                notes.mistake(place, what);
                254
            }
            (None, None) => 100,
        };
        let delay = self.preempt_delay.filter(|_| self.no_preempt.is_none());
        Some(Router {
            place: place.clone(),
            name,
            interface,
            id,
            priority,
            usual_priority: self.priority.is_none() && self.master.is_none(),
            version,
            advert,
            password: self.password.and_then(|(place, password)| pass(&place, password, version, notes)),
            preempt: self.no_preempt.is_none(),
            preempt_delay: delay.and_then(|(place, delay)| bounded(&place, delay, notes)),
            source,
            peers,
            open,
            addresses,
            excluded: self.excluded.into_iter().map(|(_, address, prefix)| (address, prefix)).collect(),
            tracks: self.tracks,
        })
    }
}

/// An entry of `track_interface`.
pub(super) fn interface(entry: &Statement, notes: &mut Notes) -> Track {
    let weight = weight_of(entry, notes);
    Track {
        place: entry.place.clone(),
        what: Tracked::Interface(entry.word(0).to_owned()),
        weight: weight.value,
        group: None,
        open: weight.open().into_iter().collect(),
    }
}

/// The entries of a block, or what stands behind its keyword in one line.
pub(super) fn entries(line: &Statement) -> Vec<Statement> {
    let behind = line.words.get(1..).filter(|words| !words.is_empty());
    let behind = behind.map(|words| Statement { place: line.place.clone(), words: words.to_vec(), block: None });
    behind.into_iter().chain(line.within().iter().cloned()).collect()
}

/// Notes what stands behind the words that keepalived reads.
pub(super) fn surplus(line: &Statement, read: usize, notes: &mut Notes) {
    let behind = line.words.get(read..).unwrap_or_default().join(" ");
    if !behind.is_empty() {
        notes.mistake(&line.place, format!("keepalived ignores \"{behind}\": write it into a line of its own"));
    }
}

/// A number from 1 to 255; where there was one before, the later one counts.
fn once(before: Option<u8>, line: &Statement, notes: &mut Notes) -> Option<u8> {
    if let Some(before) = before {
        let what = format!("{} is {before} in a line before, and this one counts", line.word(0));
        notes.mistake(&line.place, what);
    }
    number(line, 1..=255, notes)
}

fn number(line: &Statement, range: RangeInclusive<u8>, notes: &mut Notes) -> Option<u8> {
    let (keyword, value) = (line.word(0), line.word(1));
    let read = value.parse().ok().filter(|number| range.contains(number));
    if read.is_none() {
        let (first, last) = (range.start(), range.end());
        notes.fault(&line.place, format!("{keyword} \"{value}\" is not a number from {first} to {last}"));
    }
    read
}

fn address(line: &Statement, text: &str, notes: &mut Notes) -> Option<IpAddr> {
    let read = text.parse().ok();
    if read.is_none() {
        notes.fault(&line.place, format!("\"{text}\" is not an IP address"));
    }
    read
}

fn pass(place: &Place, mut password: String, version: u8, notes: &mut Notes) -> Option<String> {
    if version == 3 {
        notes.lost(
            place,
            "auth_pass",
            "version 3 has no passwords; auth_key_file authenticates adverts among xvip nodes",
        );
        return None;
    }
    if password.len() > PASSWORD {
        let what =
            format!("auth_pass has {} characters, of which {PASSWORD} travel; carried over as these", password.len());
        notes.mistake(place, what);
        while password.len() > PASSWORD {
            password.pop();
        }
    }
    Some(password)
}

/// As the versions have it; another interval than the peers' separates them.
fn advert(place: &Place, time: Duration, version: u8, notes: &mut Notes) -> Duration {
    let (step, least, most) = match version {
        2 => (1000, 1, 40),
        _ => (10, 1, 4095),
    };
    let steps = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).div_ceil(step).clamp(least, most);
    let taken = Duration::from_millis(steps * step);
    if taken != time {
        let what = format!(
            "advert_int {} is none that version {version} can say; carried over as {} s, and to be the same on all nodes",
            time.as_secs_f64(),
            taken.as_secs_f64()
        );
        notes.mistake(place, what);
    }
    taken
}

fn bounded(place: &Place, delay: Duration, notes: &mut Notes) -> Option<Duration> {
    let hour = Duration::from_secs(3600);
    if delay > hour {
        notes.lost(place, format!("preempt_delay {}", delay.as_secs()), "an hour is the most, and is what is written");
    }
    // Written in milliseconds.
    Some(delay.min(hour)).filter(|delay| delay.as_millis() > 0)
}
