//! `vrrp_instance` and what belongs to it, but for `vrrp_sync_group`.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::note::{Notes, Place, nearest};
use super::script::{self, Script, Subject, seconds};
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
    /// 2 or 3.
    pub(in crate::import) version: u8,
    pub(in crate::import) advert: Duration,
    pub(in crate::import) password: Option<String>,
    pub(in crate::import) preempt: bool,
    pub(in crate::import) preempt_delay: Option<Duration>,
    pub(in crate::import) source: Option<IpAddr>,
    pub(in crate::import) peers: Vec<IpAddr>,
    /// With prefix lengths, all of one family.
    pub(in crate::import) addresses: Vec<(IpAddr, u8)>,
    /// Addresses that come and go with them without being advertised.
    pub(in crate::import) excluded: Vec<(IpAddr, u8)>,
    pub(in crate::import) tracks: Vec<Track>,
}

/// What it heeds besides adverts.
#[derive(Debug, Clone)]
pub(in crate::import) enum Track {
    Interface { name: String, weight: Option<i16> },
    Command { words: Vec<String>, interval: Duration, timeout: Duration, weight: Option<i16>, rise: u32, fall: u32 },
}

/// What a statement says to all routers.
#[derive(Debug, Default)]
struct Globals {
    version: Option<u8>,
    interface: Option<String>,
}

/// The routers of a configuration; `content` has the text of a script's file, where it is known.
pub(in crate::import) fn read(
    tree: &[Statement], content: &dyn Fn(&str) -> Option<String>, notes: &mut Notes,
) -> Vec<Router> {
    let mut globals = Globals::default();
    let mut scripts: Vec<(Script, bool)> = Vec::new();
    for statement in tree {
        match statement.word(0) {
            "global_defs" => statement.within().iter().for_each(|line| globals.read(line, notes)),
            "vrrp_script" => {
                let script = script::read(statement, notes);
                if let Some((first, _)) = scripts.iter().find(|(other, _)| other.name == script.name) {
                    notes.fault(&script.place, format!("vrrp_script {} is already in {}", script.name, first.place));
                }
                scripts.push((script, false));
            }
            _ => {}
        }
    }
    let mut routers = Vec::new();
    for statement in tree {
        let place = &statement.place;
        match statement.word(0) {
            // Groups are read by `group` when all routers are known.
            "global_defs" | "vrrp_script" | "vrrp_sync_group" => {}
            "vrrp_instance" => routers.extend(Draft::read(statement, &globals, &mut scripts, content, notes)),
            keyword => match words::top(keyword) {
                Some(why) => notes.lost(place, statement.text(), why),
                None => {
                    let near = nearest(keyword, words::TOP);
                    notes.fault(place, format!("\"{keyword}\" is unknown here{near}"));
                }
            },
        }
    }
    for (script, tracked) in scripts {
        if !tracked && !routers.is_empty() {
            notes.mistake(
                &script.place,
                format!("vrrp_script {} is tracked by no vrrp_instance: it changes nothing", script.name),
            );
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
    devices: Vec<(Place, String)>,
    tracks: Vec<Track>,
}

impl Draft {
    fn read(
        statement: &Statement, globals: &Globals, scripts: &mut [(Script, bool)],
        content: &dyn Fn(&str) -> Option<String>, notes: &mut Notes,
    ) -> Option<Router> {
        let mut draft = Draft::default();
        for line in statement.within() {
            draft.line(line, scripts, content, notes);
        }
        draft.whole(statement, globals, notes)
    }

    fn line(
        &mut self, line: &Statement, scripts: &mut [(Script, bool)], content: &dyn Fn(&str) -> Option<String>,
        notes: &mut Notes,
    ) {
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
            "virtual_router_id" => self.id = number(line, 1..=255, notes),
            "priority" => self.priority = number(line, 1..=255, notes),
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
            "track_script" => {
                for entry in entries(line) {
                    self.track_script(&entry, scripts, content, notes);
                }
            }
            "track_interface" => {
                for entry in entries(line) {
                    let weight = weight_of(&entry, notes);
                    self.tracks.push(Track::Interface { name: entry.word(0).to_owned(), weight });
                }
            }
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
                        self.devices.extend(options.next().map(|device| (entry.place.clone(), device.to_owned())));
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
                    _ => "xvip brings each VIP in the same way",
                };
                let value = options.next().unwrap_or_default();
                notes.lost(&entry.place, format!("{option} {value}").trim_end(), why);
            }
            let into = if excluded { &mut self.excluded } else { &mut self.addresses };
            into.push((entry.place.clone(), address, prefix));
        }
    }

    fn track_script(
        &mut self, entry: &Statement, scripts: &mut [(Script, bool)], content: &dyn Fn(&str) -> Option<String>,
        notes: &mut Notes,
    ) {
        let (place, name) = (&entry.place, entry.word(0));
        let Some((script, tracked)) = scripts.iter_mut().find(|(script, _)| script.name == name) else {
            let near = nearest(name, scripts.iter().map(|(script, _)| script.name.as_str()));
            notes.mistake(
                place,
                format!("track_script {name} is defined by no vrrp_script: keepalived ignores it{near}"),
            );
            return;
        };
        *tracked = true;
        let words = words_of(&script.command.1);
        let text = words.first().and_then(|program| content(program));
        script.judge(text.as_deref(), notes);
        let why = match script.subject(text.as_deref()) {
            Subject::Balancer => {
                "it asks whether haproxy runs, and there is no such process here: the datapath is in the kernel, goes on \
                 without the agent, and a node whose agent is gone stops claiming its VIPs by itself"
            }
            Subject::Backend => {
                "it asks for an API server, which is what [service.health_check] does; a VIP does not move because a \
                 backend is not ready"
            }
            Subject::Other if !words.first().is_some_and(|program| program.starts_with('/')) => {
                "[[vrrp.track]] runs programs by their whole path; write it there as command = [\"/PATH/PROGRAM\", ...]"
            }
            Subject::Other => {
                self.tracks.push(Track::Command {
                    words,
                    interval: script.interval,
                    timeout: script.timeout.unwrap_or(script.interval),
                    weight: weight_of(entry, notes).or(script.weight),
                    rise: script.rise,
                    fall: script.fall,
                });
                return;
            }
        };
        notes.lost(&script.place, format!("vrrp_script {name}"), why);
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
        if addresses.is_empty() {
            notes.fault(place, format!("vrrp_instance {name} has no address in virtual_ipaddress"));
            return None;
        }
        // keepalived's default is version 2, which has no IPv6.
        let version = self.version.or(globals.version).filter(|_| is_ipv4).unwrap_or(if is_ipv4 { 2 } else { 3 });
        let interface = self.interface.or_else(|| globals.interface.clone());
        for (place, device) in self.devices.iter().filter(|(_, device)| Some(device) != interface.as_ref()) {
            notes.lost(place, format!("dev {device}"), "VIPs are at the interface of their [[vrrp]]");
        }
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
        let mut peers: Vec<IpAddr> = Vec::new();
        for (place, peer) in self.peers {
            if Some(peer) == source {
                notes.mistake(&place, format!("{peer} is this node itself, no peer; left out"));
            } else if peers.contains(&peer) {
                notes.mistake(&place, format!("{peer} is listed twice"));
            } else {
                peers.push(peer);
            }
        }
        let delay = self.preempt_delay.filter(|_| self.no_preempt.is_none());
        Some(Router {
            place: place.clone(),
            name,
            interface,
            id,
            priority: self.priority.unwrap_or(100),
            version,
            advert,
            password: self.password.and_then(|(place, password)| pass(&place, password, version, notes)),
            preempt: self.no_preempt.is_none(),
            preempt_delay: delay.and_then(|(place, delay)| bounded(&place, delay, notes)),
            source,
            peers,
            addresses: addresses.into_iter().map(|(_, address, prefix)| (address, prefix)).collect(),
            excluded: self.excluded.into_iter().map(|(_, address, prefix)| (address, prefix)).collect(),
            tracks: self.tracks,
        })
    }
}

/// The entries of a block, or what stands behind its keyword in one line.
pub(super) fn entries(line: &Statement) -> Vec<Statement> {
    let behind = line.words.get(1..).filter(|words| !words.is_empty());
    let behind = behind.map(|words| Statement { place: line.place.clone(), words: words.to_vec(), block: None });
    behind.into_iter().chain(line.within().iter().cloned()).collect()
}

/// `NAME weight NUMBER`
fn weight_of(entry: &Statement, notes: &mut Notes) -> Option<i16> {
    match entry.word(1) {
        "weight" => script::weight(&entry.words, 2, &entry.place, notes),
        "" => None,
        other => {
            notes.lost(&entry.place, other, "a [[vrrp.track]] has a weight, or none");
            None
        }
    }
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

/// A command's words, as a shell would divide them; no expansion.
fn words_of(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}
