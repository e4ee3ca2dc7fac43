//! `xvip import`: haproxy.cfg and keepalived.conf in, a configuration and what is to be said about it out.
//!
//! ```text
//!  haproxy.cfg ────> haproxy (tree, proxies) ──────> service ──┐
//!                                              ^ its VIPs      ├──> render ──> config::parse ──> text
//!  keepalived.conf ─> keepalived (tree, routers) ──────────────┘
//!                     every step: notes with file and line
//! ```
//! Only `files` and `command` do I/O. What is written was read back as a configuration before.

mod alone;
mod command;
mod files;
pub mod haproxy;
pub mod keepalived;
mod name;
mod note;
mod render;
mod service;
#[cfg(test)]
mod tests;
mod toml;

pub use command::{ImportArgs, run};
pub use note::{Kind, Note, Place};

use keepalived::Vrrp;
use note::Notes;
use render::Rendered;
use service::{Known, Services};
use toml::Origins;

use crate::config;

/// What the result is called where it is at fault.
const RESULT: &str = "what would be written";

/// A configuration that `xvip check` takes, and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The configuration.
    pub text: String,
    /// Lines that were not carried over, and mistakes, in the order of the files.
    pub notes: Vec<Note>,
    /// What is left to fill in, as the file says too.
    pub open: Vec<String>,
}

/// Files as they were read.
#[derive(Debug, Default)]
pub struct Input {
    /// Of haproxy; `None`: there is none.
    pub haproxy: Option<haproxy::Tree>,
    /// Of keepalived; `None`: there is none.
    pub keepalived: Option<keepalived::Tree>,
    /// What the files are called.
    pub sources: Vec<String>,
}

/// Makes a configuration of what was read; `content` has the text of a file that a script of keepalived names, where it is known.
///
/// # Errors
/// What is to be said about the files when nothing can be written: a fault at least.
pub fn convert(input: &Input, content: &dyn Fn(&str) -> Option<String>) -> Result<Imported, Vec<Note>> {
    let mut notes = Notes::default();
    let proxies = input.haproxy.as_ref().map(|tree| haproxy::read(tree, &mut notes));
    let ports = service::ports(proxies.as_deref().unwrap_or_default());
    let around = keepalived::Around { content, ports: &ports, balancer: proxies.is_some() };
    let vrrp = input.keepalived.as_ref().map(|tree| keepalived::read(tree, &around, &mut notes));
    if notes.has_faults() {
        return Err(notes.into_faults());
    }
    let whole = |source: Option<&String>| Place { file: source.map_or("", String::as_str).into(), line: 1 };
    if vrrp.as_ref().is_some_and(|vrrp| vrrp.routers.is_empty()) {
        notes.fault(
            &whole(input.sources.last()),
            "keepalived's file has no vrrp_instance, and nothing else of it can be carried over",
        );
        return Err(notes.sorted());
    }
    let Vrrp { routers, groups, virtual_servers } = vrrp.unwrap_or_default();
    let services = match &proxies {
        Some(proxies) => service::services(proxies, &Known::of(&routers), &mut notes),
        None => Services { services: alone::services(&routers, &virtual_servers, &mut notes), page: None },
    };
    if notes.has_faults() {
        return Err(notes.into_faults());
    }
    if services.services.is_empty() {
        let place =
            proxies.iter().flatten().next().map_or_else(|| whole(input.sources.first()), |proxy| proxy.place.clone());
        let what = match &proxies {
            Some(_) => {
                "no frontend leads to a backend in a way that packets can be forwarded, so there is no service to write"
            }
            None => "no VIP is good beyond its link, so there is no service to write",
        };
        notes.fault(&place, what);
        return Err(notes.sorted());
    }
    let plan = render::Plan { sources: &input.sources, routers: &routers, groups: &groups, services: &services };
    let Rendered { text, open, origins } = render::render(&plan);
    // The host's name, and nothing else of the host, may make a difference; it is that of the node where it runs.
    let env = config::Env { host_name: "node".to_owned(), memory: 0 };
    // With the line of the page, too, which is for later.
    let later = text.replacen(render::PAGE, render::PAGE.trim_start_matches("# "), 1);
    if let Some(faults) = [&text, &later].into_iter().find_map(|text| config::parse(text, RESULT, &env).err()) {
        for fault in faults.iter() {
            let (what, named) = told(&fault.what, &origins);
            let place = origins.at(fault.line, fault.column).cloned().or(named);
            let place = place.unwrap_or_else(|| Place { file: RESULT.into(), line: fault.line });
            let line = text.lines().nth(fault.line.saturating_sub(1)).unwrap_or_default().trim();
            // But for passwords.
            let line = line.split_once("auth_pass").map_or(line, |_| "auth_pass");
            notes.fault(&place, format!("{what}, {} ({RESULT}: {line})", told(&fault.remedy, &origins).0));
        }
        return Err(notes.sorted());
    }
    Ok(Imported { text, notes: notes.sorted(), open })
}

/// Words about what would be written, with lines of the files in the place of its lines, and the first of them.
fn told(text: &str, origins: &Origins) -> (String, Option<Place>) {
    let (mut told, mut first) = (String::new(), None);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("line ") {
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (digits, tail) = after.split_at(end);
        told.push_str(before);
        match digits.parse().ok().and_then(|line| origins.of_line(line)) {
            Some(place) => {
                told.push_str(&place.to_string());
                first = first.or_else(|| Some(place.clone()));
            }
            None => told.extend(["line ", digits]),
        }
        rest = tail;
    }
    (told + rest, first)
}
