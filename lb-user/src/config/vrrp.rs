//! The keys of `[[vrrp]]`, and what holds between virtual routers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::time::Duration;

use lb_proto::family::Family;
use lb_proto::units::Version;
use lb_proto::wire::vrrp::v2::Password;

use super::reader::{List, Section};
use super::report::{At, Report, Wrong, wrong};
use super::{Auth, ChecksumForm, IpNet, Keys, Vrrp, track, values};

const MOST_ADDRESSES: usize = 64;
const KEY_FILE: &str = r#""/etc/xvip/vrrp.key""#;

/// A `[[vrrp]]`, with what is compared with others.
pub(super) struct Draft {
    /// Where it begins.
    pub(super) at: usize,
    pub(super) name: Option<At<String>>,
    /// Where it is the default: that of the node, at the beginning of this table.
    pub(super) interface: Option<At<String>>,
    pub(super) id: Option<At<NonZeroU8>>,
    pub(super) source: Option<At<IpAddr>>,
    pub(super) peers: List<IpAddr>,
    pub(super) addresses: List<IpNet>,
    pub(super) built: Option<Vrrp>,
}

pub(super) fn read(section: &Section<'_>, node_interface: Option<&At<String>>) -> Draft {
    let name = section.key("name", r#""k8s""#).required().text(values::name).value();
    let interface = section.key("interface", r#""eth0""#).text(values::interface).optional();
    let interface = interface.and_then(|interface| {
        interface.or_else(|| node_interface.map(|node| At { value: node.value.clone(), at: section.at }))
    });
    let id = section.key("virtual_router_id", "51").required().integer(1..=255_u8).value();
    let id = id.and_then(|At { value, at }| NonZeroU8::new(value).map(|value| At { value, at }));
    // 0 says that a router leaves, 255 that it owns the addresses (RFC 9568 section 5.2.4).
    let priority = section.key("priority", "100").integer(1..=255_u8).or(100);
    let version_key = section.key("version", "3");
    let two = version_key.is_integer(2);
    let version = version_key.integer(2..=3_u8).or(3);
    let advert = section.key("advert_interval", r#""1s""#);
    let advert = advert.text(if two { whole_seconds } else { advert_interval }).or(Duration::from_secs(1));
    let password_key = section.key("auth_pass", r#""secret""#);
    let password = password_key.text(password).optional();
    let key_file = section.key("auth_key_file", KEY_FILE);
    let auth = key_file.text(|text| values::path(text, 4095, KEY_FILE.trim_matches('"'))).optional();
    let preempt = section.key("preempt", "false").flag().or(false);
    let delay = |text: &str| values::duration_in(text, Duration::ZERO..=Duration::from_secs(3600));
    let delay = section.key("preempt_delay", r#""0s""#).text(delay).or(Duration::ZERO);
    let source = section.key("unicast_source", r#""192.0.2.21""#);
    let source = source.text(values::host_address).optional();
    let peers = section.key("unicast_peers", r#"["192.0.2.22"]"#).texts(values::host_address);
    let addresses = section.key("virtual_addresses", r#"["192.0.2.100/24"]"#);
    let addresses_given = addresses.required().given();
    let mut addresses = addresses.texts(values::vip_net);
    let checksum_key = section.key("checksum", r#""rfc5798""#);
    let checksum = checksum_key.text(checksum).or(ChecksumForm::Rfc5798);
    let notify_key = section.key("notify", r#"["/usr/local/bin/on-vrrp"]"#);
    let (notify_given, notify) = (notify_key.given(), notify_key.texts(track::word));
    let tables = section.tables("track", "[[vrrp.track]]");
    let tracks: Vec<_> = tables.sections.iter().map(track::read).collect();
    section.finish();
    let notify = match notify_given {
        Some(at) => notify.values().and_then(|words| track::program(section, at, words)),
        None => Some(Vec::new()),
    };

    if two {
        let remedy = "remove it, or set version = 3 on all routers with this virtual_router_id";
        for (key, what) in [
            (key_file, "auth_key_file has no meaning for version 2, whose packets have no room for it"),
            (checksum_key, "checksum has no meaning for version 2, where there is but one form"),
        ] {
            if let Some(at) = key.given() {
                section.report.add(at, wrong(what, remedy));
            }
        }
        if family(&addresses) == Some(Family::V6)
            && let Some(at) = version_key.given()
        {
            let what = "version 2 is of IPv4 alone, and the virtual addresses are IPv6";
            section.report.add(at, wrong(what, "set version = 3"));
        }
    } else if let Some(at) = password_key.given() {
        let what = "auth_pass belongs to version 2, version 3 has no passwords";
        section.report.add(at, wrong(what, "remove it; among xvip nodes auth_key_file authenticates adverts"));
    }

    if addresses_given.is_some() && addresses.whole && addresses.items.is_empty() {
        let remedy = r#"write at least one such as ["192.0.2.100/24"]"#;
        section.report.add(addresses.at, wrong("virtual_addresses is empty", remedy));
    }
    // Without addresses it is not known what it carries.
    addresses.whole &= !addresses.items.is_empty();
    if let Some(first_too_many) = addresses.items.get(MOST_ADDRESSES) {
        let what = format!("virtual_addresses has more than {MOST_ADDRESSES}");
        let remedy = "move some to another [[vrrp]]";
        section.report.add(first_too_many.at, wrong(what, remedy));
    }
    if let Some(Some(source)) = source {
        let own = |peer: &&At<IpAddr>| peer.value == source.value;
        for peer in peers.items.iter().filter(own) {
            let what = format!("peer {} is the unicast_source itself", peer.value);
            let remedy = "list only the other routers";
            section.report.add(peer.at, wrong(what, remedy));
        }
    }
    one_family(section.report, source.as_ref().and_then(Option::as_ref), &peers, &addresses);
    if family(&addresses) == Some(Family::V6)
        && let Some(at) = checksum_key.given()
    {
        section.report.add(at, wrong("checksum has no meaning over IPv6, where there is but one form", "remove it"));
    }
    let build = || {
        Some(Vrrp {
            name: name.clone()?.value,
            interface: interface.clone()?.value,
            virtual_router_id: id?.value,
            priority: priority?.value,
            advert_interval: advert?.value,
            preempt: preempt?.value,
            preempt_delay: delay?.value,
            unicast_source: source?.map(|source| source.value),
            unicast_peers: peers.values()?,
            virtual_addresses: addresses.values()?,
            checksum: checksum?.value,
            version: if version?.value == 2 { Version::V2 } else { Version::V3 },
            password: password?.map(|password| password.value),
            auth: auth?.map(|file| Auth { key_file: file.value, keys: Keys::default(), journal: PathBuf::new() }),
            tracks: if tables.whole { tracks.iter().cloned().collect::<Option<_>>()? } else { return None },
            notify: notify.clone()?,
            sync_group: None,
        })
    };
    let built = build();
    Draft { at: section.at, name, interface, id, source: source.flatten(), peers, addresses, built }
}

/// That of the first address.
fn family(addresses: &List<IpNet>) -> Option<Family> {
    addresses.items.first().map(|vip| vip.value.family())
}

/// A virtual router speaks one family.
fn one_family(report: &Report<'_>, source: Option<&At<IpAddr>>, peers: &List<IpAddr>, addresses: &List<IpNet>) {
    let Some(family) = family(addresses) else { return };
    if let Some(other) = addresses.items.iter().find(|vip| vip.value.family() != family) {
        let what = format!("virtual address {} is {}, the first is {family}", other.value, other.value.family());
        let remedy = "make a [[vrrp]] for each family, which may share the virtual_router_id";
        report.add(other.at, wrong(what, remedy));
        return;
    }
    let own = source.iter().map(|source| (*source, "unicast_source", "this"));
    let others = peers.items.iter().map(|peer| (peer, "peer", "the other"));
    for (address, key, whose) in own.chain(others).filter(|(address, ..)| Family::of(address.value) != family) {
        let theirs = Family::of(address.value);
        let what = format!("{key} {} is {theirs}, the virtual addresses are {family}", address.value);
        report.add(address.at, wrong(what, format!("write {whose} router's {family} address")));
    }
    if let Some(source) = source
        && let IpAddr::V6(address) = source.value
        && peers.whole
        && peers.items.is_empty()
        && !address.is_unicast_link_local()
    {
        // RFC 9568 section 5.1.2.1
        let what = format!("unicast_source {address} is not link-local, as that of adverts by multicast has to be");
        let remedy = "leave it out, write an fe80:: address, or list unicast_peers";
        report.add(source.at, wrong(what, remedy));
    }
}

/// Names, VIPs and, in a family, VRIDs are taken once; peers are other hosts.
pub(super) fn between(routers: &[Draft], report: &Report<'_>) {
    let mut names = BTreeMap::new();
    let mut ids = BTreeMap::new();
    let mut vips = BTreeMap::new();
    for router in routers {
        if let Some(name) = &router.name
            && let Some(first) = earlier(&mut names, &name.value, name.at)
        {
            let what = format!("name {:?} is taken by the [[vrrp]] in line {}", name.value, report.line(first));
            report.add(name.at, wrong(what, "choose another"));
        }
        if let (Some(interface), Some(id)) = (&router.interface, &router.id)
            && let Some(first) = earlier(&mut ids, (&interface.value, family(&router.addresses), id.value), id.at)
        {
            let (interface, line) = (&interface.value, report.line(first));
            let what = format!("virtual_router_id {} is taken on {interface:?} in line {line}", id.value);
            report.add(id.at, wrong(what, "choose another from 1 to 255"));
        }
        for vip in &router.addresses.items {
            if let Some(first) = earlier(&mut vips, vip.value.address, vip.at) {
                let what = format!("{} is already a virtual address in line {}", vip.value.address, report.line(first));
                report.add(vip.at, wrong(what, "list it once"));
            }
        }
    }
    for router in routers {
        let mut seen = BTreeMap::new();
        for peer in &router.peers.items {
            if let Some(first) = earlier(&mut seen, peer.value, peer.at) {
                let what = format!("peer {} is listed before in line {}", peer.value, report.line(first));
                report.add(peer.at, wrong(what, "list it once"));
            }
        }
        let peers = router.peers.items.iter().map(|peer| (peer, "peer", "the other router's own address"));
        let source = router.source.iter().map(|source| (source, "unicast_source", "this router's own address"));
        for (own, key, wanted) in peers.chain(source) {
            if vips.contains_key(&own.value) {
                let what = format!("{key} {} is a virtual address", own.value);
                report.add(own.at, wrong(what, format!("write {wanted}")));
            }
        }
    }
}

/// Where `key` was seen before; remembers it otherwise.
pub(super) fn earlier<K: Ord>(seen: &mut BTreeMap<K, usize>, key: K, at: usize) -> Option<usize> {
    if let Some(first) = seen.get(&key) {
        return Some(*first);
    }
    seen.insert(key, at);
    None
}

/// The packet has a byte of seconds (RFC 3768 section 5.3.7), a timer here the 12 bits of version 3.
fn whole_seconds(text: &str) -> Result<Duration, Wrong> {
    let interval = values::duration_in(text, Duration::from_secs(1)..=Duration::from_secs(40))?;
    if interval.subsec_nanos() == 0 {
        return Ok(interval);
    }
    let below = values::spell(Duration::from_secs(interval.as_secs()));
    Err(wrong(format!("{text:?} is not of whole seconds, as version 2 has them"), format!("write {below:?}")))
}

/// Not repeated in a fault.
fn password(text: &str) -> Result<Password, Wrong> {
    match text.len() {
        1..=Password::LONGEST => Ok(Password::new(text)),
        0 => Err(wrong("is empty", "write up to 8 bytes, the same on all routers, or leave it out")),
        length => {
            let what = format!("has {length} bytes, of which 8 travel");
            Err(wrong(what, "write the first 8, which are what other routers compare too"))
        }
    }
}

/// The packet has 12 bits of centiseconds (RFC 9568 section 5.2.7).
fn advert_interval(text: &str) -> Result<Duration, Wrong> {
    let range = Duration::from_millis(10)..=Duration::from_millis(40_950);
    let interval = values::duration_in(text, range)?;
    let over = interval.as_millis() % 10;
    if over == 0 {
        return Ok(interval);
    }
    let below = values::spell(interval.saturating_sub(Duration::from_millis(over as u64)));
    Err(wrong(format!("{text:?} is not in steps of 10ms"), format!("write {below:?}")))
}

fn checksum(text: &str) -> Result<ChecksumForm, Wrong> {
    let choices = [("rfc5798", ChecksumForm::Rfc5798), ("rfc9568", ChecksumForm::Rfc9568)];
    values::choice(text, &choices, &[])
}
