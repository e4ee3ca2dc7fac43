//! Configuration: a file in, a typed value or every fault of the file out.
//!
//! ```text
//!  path ──file──> text ──toml_edit──> tree ──reader──> sections ──between──> Loaded ──host──> ()
//!                   └───────────── every step: faults with line and column ──────────────┘
//! ```
//! `file` reads, `replacement` writes, `report` collects the faults, `reader` knows TOML, `values` knows what a string may say, the section files (`node`, `vrrp`,
//! `sync_group`, `service`, `admission`, `health_check`, `sync`, `flow_log`) know the keys, `between`, `direct` and `sources` compare sections, `host` compares with a host. Only `file` and `replacement` do I/O.

mod admission;
mod between;
mod direct;
mod edit;
mod fault;
mod file;
mod flow_log;
mod health_check;
mod host;
mod keys;
mod listen;
mod node;
mod reader;
mod replacement;
mod report;
mod secret;
mod service;
mod sources;
mod sync;
mod sync_group;
#[cfg(test)]
mod tests;
mod track;
mod valid;
mod values;
mod vrrp;

use std::path::Path;

pub use edit::{Edit, EditError, edited};
pub use fault::{Fault, Faults};
pub use host::{HostFacts, Loaded};
pub use keys::{KeyError, Keys};

pub use listen::Listen;
pub use replacement::{Replacement, SaveError};
pub use secret::{SecretError, read_public, read_secret, read_trusted};
pub use track::{Track, TrackCommand, Tracked};
pub use valid::*;

pub(crate) use values::{shown_address, spell};

use reader::Section;
use report::{Report, wrong};

/// What stands in a configuration, read from the command line or a request by the same rules.
pub(crate) mod said {
    use std::net::SocketAddr;

    use super::report::Wrong;
    use super::{IpNet, values};

    fn words<T>(read: Result<T, Wrong>) -> Result<T, String> {
        read.map_err(|Wrong { what, remedy }| format!("{what}, {remedy}"))
    }

    /// Name of a virtual router, service or backend.
    pub(crate) fn name(text: &str) -> Result<String, String> {
        words(values::name(text))
    }

    /// The addresses of a network, or one address.
    pub(crate) fn net(text: &str) -> Result<IpNet, String> {
        words(values::net(text))
    }

    /// Address:port of a backend; without a port, which is 0 then, connections keep the client's.
    pub(crate) fn backend_address(text: &str) -> Result<SocketAddr, String> {
        words(values::backend_address(text))
    }
}

/// What the defaults depend on besides the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Env {
    /// The host's name, the default of `node.name`; empty where it has none.
    pub host_name: String,
    /// Bytes of the host's memory, the measure of `node.max_flows`; 0: not known.
    pub memory: u64,
}

/// Reads and checks the file at `path`; only the file is looked at, not the host it is for.
///
/// # Errors
/// Every fault of the file; one alone where it cannot be read or is no TOML.
pub fn load(path: &Path) -> Result<Loaded, Faults> {
    parse_here(&read_text(path)?, path)
}

/// The text of the file at `path`, which need not be a configuration.
///
/// # Errors
/// One fault where it cannot be read, or is no text.
pub fn read_text(path: &Path) -> Result<String, Faults> {
    file::read(path)
}

/// Checks the text of a configuration for this host, as if it stood in the file at `path`.
///
/// # Errors
/// As [`parse`].
pub fn parse_here(text: &str, path: &Path) -> Result<Loaded, Faults> {
    parse(text, &path.display().to_string(), &file::env())
}

/// Checks a configuration; `file` is what the faults call it.
///
/// # Errors
/// Every fault of the text; one alone where it is no TOML.
pub fn parse(text: &str, file: &str, env: &Env) -> Result<Loaded, Faults> {
    let original = text;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let report = Report::new(text);
    let loaded = read(text, &report, env);
    match (loaded, report.into_faults(file)) {
        (_, Some(faults)) => Err(faults),
        (Some(mut loaded), None) => {
            loaded.places.file = file.to_owned();
            loaded.text = original.to_owned();
            Ok(loaded)
        }
        (None, None) => Err(Faults::unexplained(file)),
    }
}

/// `None` only after a fault went to `report`.
fn read(text: &str, report: &Report<'_>, env: &Env) -> Option<Loaded> {
    if text.trim().is_empty() {
        let remedy = r#"begin with [node] and interface = "eth0""#;
        report.add(0, wrong("the file is empty", remedy));
        return None;
    }
    if let Some(at) = text.find('\0') {
        let remedy = "save the file as plain UTF-8 text";
        report.add(at, wrong("the file has a NUL byte", remedy));
        return None;
    }
    let document = match toml_edit::Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            report.add_syntax(&error);
            return None;
        }
    };
    let root = Section::root(document.as_table(), report);
    let node = node::read(&root.table("node", "[node]"), env);
    let metrics = node::metrics(&root.table("metrics", "[metrics]"));
    let admin = node::admin(&root.table("admin", "[admin]"));
    let routers: Vec<_> = (root.tables("vrrp", "[[vrrp]]").sections.iter())
        .map(|section| vrrp::read(section, node.interface.as_ref()))
        .collect();
    let groups: Vec<_> =
        (root.tables("vrrp_sync_group", "[[vrrp_sync_group]]").sections.iter()).map(sync_group::read).collect();
    let services = service::read_all(&root);
    let (has_sync, sync) = root.optional_table("sync", "[sync]");
    let sync = sync::read(&sync, has_sync);
    let (has_flow_log, flow_log) = root.optional_table("flow_log", "[flow_log]");
    let flow_log = flow_log::read(&flow_log, has_flow_log);
    root.finish();

    vrrp::between(&routers, report);
    sync_group::check(&groups, &routers, report);
    service::between(&services, report);
    admission::between(&services, report);
    between::check(&node, metrics.listen.as_ref(), &routers, &services, report);
    direct::check(&node, &routers, &services, report);
    sources::check(&node, &routers, &services, report);
    let shared = sync::check(&sync, &node, &routers, report);

    let places = host::Places::new(&node, &routers, &sync, report);
    let mut vrrp = routers.into_iter().map(|r| r.built).collect::<Option<Vec<_>>>()?;
    sync_group::assign(&groups, &mut vrrp);
    let config = Config {
        node: node.built?,
        metrics: metrics.built?,
        admin: admin?,
        vrrp,
        services: services.into_iter().map(|s| s.built).collect::<Option<_>>()?,
        sync: shared?,
        flow_log: flow_log?,
    };
    Some(Loaded { config, text: String::new(), places })
}
