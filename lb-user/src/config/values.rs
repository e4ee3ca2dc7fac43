//! What the strings of a configuration may say. Pure; a refusal says what follows the key's name in the fault.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::report::{Wrong, quote, wrong};
use super::{IpNet, Listen};

/// One of `choices`; those in `later` are meant for a later version.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)], later: &[&str]) -> Result<T, Wrong> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let why = match later.contains(&text) {
        true => "is not in this version",
        false => "is unknown",
    };
    let names = choices.iter().map(|(name, _)| *name);
    Err(wrong(format!("{} {why}", quote(text)), format!("use {}", any_of(names))))
}

/// `"a", "b" or "c"`.
pub(super) fn any_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut quoted: Vec<_> = names.into_iter().map(quote).collect();
    let last = quoted.pop().unwrap_or_default();
    match quoted.is_empty() {
        true => last,
        false => format!("{} or {last}", quoted.join(", ")),
    }
}

/// Name of a node, virtual router, service or backend: `[a-z0-9][a-z0-9.-]*`, at most 63 bytes.
pub(super) fn name(text: &str) -> Result<String, Wrong> {
    const ALLOWED: &str = "use a-z, 0-9, - and ., beginning with a letter or digit";
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if text.is_empty() {
        Err(wrong("is empty", ALLOWED))
    } else if text.len() > 63 {
        let what = format!("{} has {} bytes", quote(text), text.len());
        Err(wrong(what, "shorten it to 63"))
    } else if text.chars().any(|c| c.is_ascii_uppercase()) && name(&text.to_ascii_lowercase()).is_ok() {
        let lower = text.to_ascii_lowercase();
        Err(wrong(format!("{} has upper case letters", quote(text)), format!("write {lower:?}")))
    } else if let Some(bad) = text.chars().find(|c| !good(*c)) {
        Err(wrong(format!("{} has the character {bad:?}", quote(text)), ALLOWED))
    } else if text.starts_with(['-', '.']) {
        Err(wrong(format!("{} begins with a sign", quote(text)), ALLOWED))
    } else {
        Ok(text.to_owned())
    }
}

/// Name of a network interface, as the kernel takes it.
pub(super) fn interface(text: &str) -> Result<String, Wrong> {
    const REMEDY: &str = "write it as `ip link` shows it";
    let foreign = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if text.is_empty() || text == "." || text == ".." {
        Err(wrong(format!("{} is not an interface", quote(text)), REMEDY))
    } else if text.len() > 15 {
        let what = format!("{} has {} bytes, the kernel allows 15", quote(text), text.len());
        Err(wrong(what, REMEDY))
    } else if let Some(bad) = text.chars().find(|c| foreign(*c)) {
        Err(wrong(format!("{} has the character {bad:?}", quote(text)), REMEDY))
    } else {
        Ok(text.to_owned())
    }
}

/// A duration with units, largest first: `2h`, `1h30m`, `500ms`.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    const REMEDY: &str = r#"write whole numbers with units h, m, s or ms such as "2s" or "1h30m""#;
    let refuse = |what: &str| wrong(format!("{} {what}", quote(text)), REMEDY);
    let mut total = Duration::ZERO;
    let mut smallest = u64::MAX;
    let mut rest = text;
    loop {
        let (digits, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        let (unit, tail) = tail.split_at(tail.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(tail.len()));
        let millis = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            "" if !digits.is_empty() && tail.is_empty() => return Err(refuse("has no unit")),
            _ => return Err(refuse("is not a duration")),
        };
        if digits.is_empty() {
            return Err(refuse("is not a duration"));
        }
        if millis >= smallest {
            return Err(refuse("has its units out of order"));
        }
        let part: Option<u64> = digits.parse().ok();
        total = part
            .and_then(|count| count.checked_mul(millis))
            .and_then(|millis| total.checked_add(Duration::from_millis(millis)))
            .ok_or_else(|| refuse("is too long"))?;
        if tail.is_empty() {
            return Ok(total);
        }
        (smallest, rest) = (millis, tail);
    }
}

/// A duration within bounds.
pub(super) fn duration_in(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, Wrong> {
    let value = duration(text)?;
    if value < *range.start() {
        let remedy = format!("write {:?} or more", spell(*range.start()));
        Err(wrong(format!("{} is too short", quote(text)), remedy))
    } else if value > *range.end() {
        let remedy = format!("write {:?} or less", spell(*range.end()));
        Err(wrong(format!("{} is too long", quote(text)), remedy))
    } else {
        Ok(value)
    }
}

/// The shortest spelling that [`duration`] reads back.
pub(crate) fn spell(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, millis) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    match text.is_empty() {
        true => "0s".into(),
        false => text,
    }
}

/// A port range such as `1024-32767`.
pub(super) fn port_range(text: &str) -> Result<RangeInclusive<u16>, Wrong> {
    /// Fewer leave too little choice when a backend still remembers the last connections.
    const FEWEST: u16 = 64;
    const REMEDY: &str = r#"write it such as "1024-32767""#;
    let ports = text.split_once('-').and_then(|(first, last)| Some((port(first)?, port(last)?)));
    let Some((first, last)) = ports else {
        return Err(wrong(format!("{} is not a range of ports", quote(text)), REMEDY));
    };
    if first > last {
        Err(wrong(format!("{} ends before it begins", quote(text)), REMEDY))
    } else if first < 1024 {
        let remedy = "begin at 1024 or above";
        Err(wrong(format!("{} has ports that belong to the host's services", quote(text)), remedy))
    } else if last - first < FEWEST - 1 {
        let what = format!("{} has fewer than {FEWEST} ports", quote(text));
        Err(wrong(what, "widen it, each backend can have that many connections from one VIP"))
    } else {
        Ok(first..=last)
    }
}

/// An absolute path of a file, at most `longest` bytes.
pub(super) fn path(text: &str, longest: usize, example: &str) -> Result<PathBuf, Wrong> {
    if !text.starts_with('/') {
        let remedy = format!("write the whole path such as {example:?}");
        Err(wrong(format!("{} is a relative path", quote(text)), remedy))
    } else if let Some(bad) = text.chars().find(|c| c.is_control()) {
        let what = format!("{} has the character {bad:?}", quote(text));
        Err(wrong(what, "remove it"))
    } else if text.ends_with('/') {
        let remedy = format!("name a file such as {example:?}");
        Err(wrong(format!("{} is a directory", quote(text)), remedy))
    } else if text.len() > longest {
        let what = format!("{} has {} bytes", quote(text), text.len());
        Err(wrong(what, format!("choose a path of at most {longest}")))
    } else {
        Ok(PathBuf::from(text))
    }
}

/// An absolute path of a directory.
pub(super) fn directory(text: &str, example: &str) -> Result<PathBuf, Wrong> {
    match text.trim_end_matches('/') {
        "" if !text.is_empty() => Ok(PathBuf::from("/")),
        bare => path(bare, 4095, example),
    }
}

/// Path and query of an HTTP request.
pub(super) fn http_path(text: &str) -> Result<String, Wrong> {
    if !text.starts_with('/') {
        let remedy = r#"begin it with / such as "/readyz""#;
        Err(wrong(format!("{} does not begin with /", quote(text)), remedy))
    } else if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        let what = format!("{} has the character {bad:?}", quote(text));
        Err(wrong(what, "write it percent-encoded or leave it out"))
    } else if text.len() > 1024 {
        let what = format!("{} has {} bytes", quote(text), text.len());
        Err(wrong(what, "shorten it to 1024"))
    } else {
        Ok(text.to_owned())
    }
}

/// Value of a Host header: a DNS name or an IP address, with or without a port.
pub(super) fn http_host(text: &str) -> Result<String, Wrong> {
    let name = match text.rsplit_once(':') {
        Some((name, digits)) if port(digits).is_some_and(|port| port > 0) => name,
        _ => text,
    };
    let good = match bracketed(name) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        // Without brackets an IPv6 address and a port cannot be told apart.
        None => server_name(name).is_ok() && !name.contains(':'),
    };
    good.then(|| text.to_owned()).ok_or_else(|| {
        let remedy = r#"write one such as "lb.example.net" or "192.0.2.100:8443""#;
        wrong(format!("{} is not a host name", quote(text)), remedy)
    })
}

/// Words that are kept secret: not repeated in a fault.
pub(super) fn secret(text: &str) -> Result<String, Wrong> {
    match text.len() {
        1..=256 => Ok(text.to_owned()),
        0 => Err(wrong("is empty", "write any words, the same on all nodes, or leave it out")),
        length => Err(wrong(format!("has {length} bytes"), "shorten it to 256")),
    }
}

/// Name of a TLS server: a DNS name or an IP address.
pub(super) fn server_name(text: &str) -> Result<String, Wrong> {
    match rustls_pki_types::ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => {
            let remedy = r#"write a DNS name such as "lb.example.net" or an IP address"#;
            Err(wrong(format!("{} is not a server name", quote(text)), remedy))
        }
    }
}

/// An address that one host can have.
pub(super) fn host_address(text: &str) -> Result<IpAddr, Wrong> {
    let address = ip(text).ok_or_else(|| match text.contains('/') {
        true => wrong(format!("{} has a prefix length", quote(text)), "write the address alone"),
        false => not_address(text),
    })?;
    one_host(address, text)
}

/// A VIP with its prefix length.
pub(super) fn vip_net(text: &str) -> Result<IpNet, Wrong> {
    let Some((address, prefix)) = text.split_once('/') else {
        return Err(match ip(text) {
            Some(address) => {
                let (_, usual) = prefixes(address);
                let remedy = format!(r#"add that of its subnet such as "{text}/{usual}""#);
                wrong(format!("{} has no prefix length", quote(text)), remedy)
            }
            None => not_address(text),
        });
    };
    let address = one_host(ip(address).ok_or_else(|| not_address(address))?, address)?;
    let (longest, usual) = prefixes(address);
    let prefix = match number(prefix) {
        Some(prefix) if (1..=longest).contains(&prefix) => prefix,
        _ => {
            let remedy = format!(r#"write 1 to {longest} such as "{address}/{usual}""#);
            return Err(wrong(format!("{} has a wrong prefix length", quote(text)), remedy));
        }
    };
    let net = IpNet { address, prefix };
    // A /31 and a /127 have no such addresses (RFC 3021, RFC 6164), a /32 and a /128 are one address.
    let special = match address {
        _ if prefix >= longest - 1 => return Ok(net),
        IpAddr::V4(_) if address == net.network() => "network",
        IpAddr::V4(_) if address == net.last() => "broadcast",
        // RFC 4291 section 2.6.1
        IpAddr::V6(_) if address == net.network() => "subnet-router anycast",
        _ => return Ok(net),
    };
    let what = format!("{} is the {special} address of its subnet", quote(text));
    Err(wrong(what, "choose another address of the subnet"))
}

/// The addresses of a network, or one address.
pub(super) fn net(text: &str) -> Result<IpNet, Wrong> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address = ip(address).ok_or_else(|| {
        let remedy = r#"write one such as "10.0.0.0/8" or "2001:db8::/32""#;
        wrong(format!("{} is not a network", quote(text)), remedy)
    })?;
    if let IpAddr::V6(six) = address
        && let Some(four) = six.to_ipv4_mapped()
    {
        let remedy = format!("write it as {four}, in a service of IPv4");
        return Err(wrong(format!("{} is an IPv4 address written as IPv6", quote(text)), remedy));
    }
    let (longest, usual) = prefixes(address);
    let prefix = match prefix.map(number) {
        None => longest,
        Some(Some(prefix)) if prefix <= longest => prefix,
        Some(_) => {
            let remedy = format!(r#"write 0 to {longest} such as "{address}/{usual}""#);
            return Err(wrong(format!("{} has a wrong prefix length", quote(text)), remedy));
        }
    };
    let net = IpNet { address, prefix };
    if net.network() != address {
        let remedy = format!(r#"write "{}/{prefix}", or "{address}" for the host alone"#, net.network());
        return Err(wrong(format!("{} has bits behind its prefix", quote(text)), remedy));
    }
    Ok(net)
}

/// The longest prefix length and the usual one.
fn prefixes(address: IpAddr) -> (u8, u8) {
    match address {
        IpAddr::V4(_) => (32, 24),
        IpAddr::V6(_) => (128, 64),
    }
}

/// Where a service listens: an address and a port, or a range of ports. 0.0.0.0 and :: are every address of the node, of
/// their IP version.
pub(super) fn listen(text: &str) -> Result<Listen, Wrong> {
    let (address, ports) = address_and_port(text, "192.0.2.100:8443")?;
    let local = address.is_unspecified() || address.is_loopback();
    if !local {
        beyond_link(address, text)?;
    }
    let Some((first, last)) = ports.split_once('-') else {
        return Ok(SocketAddr::new(address, whole_port(ports, text)?).into());
    };
    let what = match (port(first), port(last)) {
        (Some(first @ 1..), Some(last)) if first <= last => return Ok(Listen { address, first, last }),
        (Some(1..), Some(1..)) => "a range that ends before it begins",
        _ => "a wrong range of ports",
    };
    let remedy = r#"write it such as "192.0.2.100:30000-32767""#;
    Err(wrong(format!("{} has {what}", quote(text)), remedy))
}

/// Address:port of a backend; without a port, which is 0 then, connections keep the client's. An IPv6 address is in
/// brackets either way: without them nobody knows whether its last number is a port.
pub(super) fn backend_address(text: &str) -> Result<SocketAddr, Wrong> {
    let in_brackets = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let six = in_brackets.and_then(|text| text.parse::<Ipv6Addr>().ok()).map(IpAddr::from);
    match six.or_else(|| text.parse::<Ipv4Addr>().ok().map(IpAddr::from)) {
        Some(address) => {
            beyond_link(address, text)?;
            Ok((address, 0).into())
        }
        None => backend_socket(text),
    }
}

/// The spelling that [`backend_address`] reads back.
pub(crate) fn shown_address(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(six) if six.port() == 0 => format!("[{}]", six.ip()),
        four if four.port() == 0 => four.ip().to_string(),
        whole => whole.to_string(),
    }
}

/// Address:port of a backend.
fn backend_socket(text: &str) -> Result<SocketAddr, Wrong> {
    let socket = socket(text, "192.0.2.31:6443")?;
    beyond_link(socket.ip(), text)?;
    Ok(socket)
}

/// Address:port this host listens at itself; 0.0.0.0 is every IPv4 address, [::] every address of both families.
pub(super) fn listen_socket(text: &str) -> Result<SocketAddr, Wrong> {
    let socket = socket(text, "127.0.0.1:9910")?;
    if socket.ip().is_unspecified() || socket.ip().is_loopback() {
        return Ok(socket);
    }
    beyond_link(socket.ip(), text)?;
    Ok(socket)
}

fn socket(text: &str, example: &str) -> Result<SocketAddr, Wrong> {
    let (address, port) = address_and_port(text, example)?;
    if port.contains('-') {
        let remedy = "write one port";
        return Err(wrong(format!("{} has a range of ports", quote(text)), remedy));
    }
    Ok(SocketAddr::new(address, whole_port(port, text)?))
}

/// The address, and what stands where the port should.
fn address_and_port<'t>(text: &'t str, example: &str) -> Result<(IpAddr, &'t str), Wrong> {
    if text.parse::<Ipv6Addr>().is_ok() || bracketed(text).is_some_and(|text| text.parse::<Ipv6Addr>().is_ok()) {
        let port = example.rsplit(':').next().unwrap_or_default();
        let remedy =
            format!(r#"write it in brackets and add the port such as "[{}]:{port}""#, bracketed(text).unwrap_or(text));
        return Err(wrong(format!("{} is an IPv6 address without a port", quote(text)), remedy));
    }
    let such = format!("write address:port such as {example:?}");
    let Some((host, port)) = text.rsplit_once(':') else {
        let what = match ip(text) {
            Some(_) => "has no port",
            None => "is not an address and port",
        };
        return Err(wrong(format!("{} {what}", quote(text)), such));
    };
    let address = match bracketed(host) {
        Some(address) => address.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    };
    let address = address.ok_or_else(|| {
        let what = format!("{} has no IP address before its port", quote(text));
        wrong(what, such)
    })?;
    Ok((address, port))
}

/// A port of `text` from 1 up.
fn whole_port(digits: &str, text: &str) -> Result<u16, Wrong> {
    match port(digits) {
        Some(0) => Err(wrong(format!("{} has port 0", quote(text)), "write a port from 1 to 65535")),
        Some(port) => Ok(port),
        None => {
            let what = format!("{} has a wrong port", quote(text));
            Err(wrong(what, "write a port from 1 to 65535"))
        }
    }
}

/// Refuses what is not the address of a single host.
fn one_host(address: IpAddr, text: &str) -> Result<IpAddr, Wrong> {
    let what = match address {
        IpAddr::V4(address) => not_one_host_v4(address),
        IpAddr::V6(address) => not_one_host_v6(address),
    };
    let remedy = "write an address that one host of the network has";
    what.map_or(Ok(address), |what| Err(wrong(format!("{} {what}", quote(text)), remedy)))
}

fn not_one_host_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("is not the address of a host"),
        [127, ..] => Some("is a loopback address"),
        [224..=239, ..] => Some("is a multicast address"),
        [255, 255, 255, 255] => Some("is the broadcast address"),
        [240..=255, ..] => Some("is a reserved address"),
        _ => None,
    }
}

fn not_one_host_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address {
        Ipv6Addr::UNSPECIFIED => Some("is not the address of a host"),
        Ipv6Addr::LOCALHOST => Some("is a loopback address"),
        _ if address.is_multicast() => Some("is a multicast address"),
        _ if address.to_ipv4_mapped().is_some() => Some("is an IPv4 address written as IPv6"),
        _ => None,
    }
}

/// Refuses what is not the address of a single host, and what names one only together with an interface.
fn beyond_link(address: IpAddr, text: &str) -> Result<IpAddr, Wrong> {
    match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            let remedy = "write an address that is good beyond the link";
            Err(wrong(format!("{} is a link-local address", quote(text)), remedy))
        }
        address => one_host(address, text),
    }
}

fn not_address(text: &str) -> Wrong {
    let remedy = r#"write one such as "192.0.2.22" or "2001:db8::22""#;
    wrong(format!("{} is not an IP address", quote(text)), remedy)
}

fn ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// What stands between brackets, where nothing stands around them.
fn bracketed(text: &str) -> Option<&str> {
    text.strip_prefix('[')?.strip_suffix(']')
}

fn port(text: &str) -> Option<u16> {
    number(text)
}

/// Digits only: the standard library would take a `+` as well.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
