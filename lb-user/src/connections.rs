//! The `connections` and `explain` commands: flows as the datapath has them, and what becomes of one.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::admin::{fetch_connections, fetch_explanation};
use crate::bpf;
use crate::cli::{ConnectionsArgs, ExplainArgs};
use crate::explain::Explanation;
use crate::naming::Naming;
use crate::status::table;

/// Connections that are told at most.
pub const MOST: usize = 50_000;

/// A flow, in the words of status and configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The client, address:port.
    pub client: String,
    /// Where it connected to.
    pub listener: String,
    /// The service; none: the backend is gone.
    pub service: Option<String>,
    /// The backend's name; none: it is gone.
    pub backend: Option<String>,
    /// Where it listens.
    pub address: String,
    /// Where the backend believes its client to be; none: with `mode = "dsr"`, the backend's own node knows.
    pub seen_as: Option<String>,
    /// `opening`, `established` or `closing`.
    pub state: String,
    /// Seconds without a packet in either direction.
    pub idle_seconds: u32,
    /// Seconds it may be silent.
    pub idle_limit: u32,
    /// `own`, or `sync`: another node has told of it.
    pub origin: String,
}

impl Connection {
    /// With the names that this node has for its numbers.
    #[must_use]
    pub fn of(found: &bpf::Connection, naming: &Naming) -> Self {
        let named = naming.of(found.place);
        Self {
            client: found.client.to_string(),
            listener: found.listener.to_string(),
            service: named.map(|named| named.service.clone()),
            backend: named.map(|named| named.backend.clone()),
            address: found.backend.to_string(),
            seen_as: found.seen_as.map(|seen| seen.to_string()),
            state: found.stage.label().to_owned(),
            idle_seconds: found.idle_seconds,
            idle_limit: found.idle_limit,
            origin: if found.is_learnt { "sync" } else { "own" }.to_owned(),
        }
    }

    /// The backend's name, or its address.
    #[must_use]
    pub fn backend_name(&self) -> &str {
        self.backend.as_deref().unwrap_or(&self.address)
    }
}

/// The body of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// By client.
    pub connections: Vec<Connection>,
    /// How many there are; more than are told where that was cut.
    pub total: u64,
}

/// Which ones are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Those of a client.
    pub client: Option<IpAddr>,
    /// And its port.
    pub client_port: Option<u16>,
    /// Those of a service.
    pub service: Option<String>,
    /// Those to the backends of this name.
    pub backend: Option<String>,
    /// So many at most.
    pub limit: usize,
}

/// Runs `xvip connections`; what to exit with.
pub async fn list(args: &ConnectionsArgs) -> u8 {
    let (client, client_port) = match args.client {
        Some(Peer { address, port }) => (Some(address), port),
        None => (None, None),
    };
    let (mut service, backend) = match &args.backend {
        Some(named) => (named.service.clone(), Some(named.name.clone())),
        None => (None, None),
    };
    if args.service.is_some() {
        service.clone_from(&args.service);
    }
    let filter = Filter { client, client_port, service, backend, limit: args.limit };
    let found = match fetch_connections(&args.agent.socket, &filter).await {
        Ok(found) => found,
        Err(error) => {
            eprintln!("xvip: {error}");
            return error.exit_code();
        }
    };
    let told = found.connections.len() as u64;
    if args.json {
        return printed(&serde_json::to_string(&found).unwrap_or_default());
    }
    let code = printed(&rendered(&found));
    if found.total > told {
        eprintln!("xvip: {told} of {} connections; the others were left out (--limit)", found.total);
    }
    code
}

/// Runs `xvip explain`; what to exit with.
pub async fn explain(args: &ExplainArgs) -> u8 {
    match fetch_explanation(&args.agent.socket, args.client, args.listener).await {
        Ok(explanation) if args.json => printed(&serde_json::to_string(&explanation).unwrap_or_default()),
        Ok(explanation) => printed(&explained(&explanation)),
        Err(error) => {
            eprintln!("xvip: {error}");
            error.exit_code()
        }
    }
}

fn printed(text: &str) -> u8 {
    let mut out = io::stdout().lock();
    // Whoever closed the output has seen enough.
    let _ = out.write_all(text.as_bytes());
    if !text.ends_with('\n') {
        let _ = out.write_all(b"\n");
    }
    0
}

fn rendered(found: &Connections) -> String {
    let row = |of: &Connection| {
        vec![
            of.client.clone(),
            of.listener.clone(),
            of.service.clone().unwrap_or_else(|| "-".to_owned()),
            of.backend_name().to_owned(),
            of.seen_as.clone().unwrap_or_else(|| "-".to_owned()),
            of.state.clone(),
            format!("{}s", of.idle_seconds),
            of.origin.clone(),
        ]
    };
    let header = ["CLIENT", "LISTENER", "SERVICE", "BACKEND", "SEEN AS", "STATE", "IDLE", "ORIGIN"];
    table(&header, &[6], found.connections.iter().map(row).collect())
}

fn explained(of: &Explanation) -> String {
    let mut text = format!("{} -> {}\n", of.client, of.listener);
    let mut line = |label: &str, words: &str| {
        if !words.is_empty() {
            text.push_str(&format!("  {label:<12}{words}\n"));
        }
    };
    line("VIP", &of.vip);
    let service = of.service.as_ref().map(|name| format!("{name}, balance {}", of.balance));
    line("service", service.as_deref().unwrap_or("none"));
    line("allow", &of.allowed);
    line("limit", &of.source_limit);
    if let Some(flow) = &of.flow {
        let seen = flow.seen_as.as_ref().map(|seen| format!(", which sees {seen}")).unwrap_or_default();
        let told = if flow.origin == "sync" { ", learnt from another balancer" } else { "" };
        let (name, address) = (flow.backend_name(), &flow.address);
        line("flow", &format!("{} with {name} ({address}){seen}, idle {}s{told}", flow.state, flow.idle_seconds));
    }
    line("outcome", &of.words);
    if !of.candidates.is_empty() {
        let row = |of: &crate::explain::Candidate| {
            vec![
                of.name.clone(),
                of.address.clone(),
                if of.takes { "in" } else { "out" }.to_owned(),
                of.connections.to_string(),
                if of.chance > 0.0 { format!("{:.0}%", of.chance * 100.0) } else { "-".to_owned() },
                of.why.clone(),
            ]
        };
        text.push('\n');
        let header = ["BACKEND", "ADDRESS", "", "CONNS", "NEXT", "WHY"];
        text.push_str(&table(&header, &[3, 4], of.candidates.iter().map(row).collect()));
    }
    text
}

/// An address, with a port or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Address.
    pub address: IpAddr,
    /// Port; none: any.
    pub port: Option<u16>,
}

/// Reads ADDRESS or ADDRESS:PORT.
///
/// # Errors
/// What is wanted.
pub fn peer(text: &str) -> Result<Peer, String> {
    if let Ok(socket) = text.parse::<SocketAddr>()
        && socket.port() != 0
    {
        return Ok(Peer { address: socket.ip(), port: Some(socket.port()) });
    }
    let in_brackets = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match in_brackets {
        Some(six) => six.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => text.parse().ok(),
    };
    let wanted = || "an address, or ADDRESS:PORT ([ADDRESS]:PORT over IPv6), is wanted".to_owned();
    Ok(Peer { address: address.ok_or_else(wanted)?, port: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(client: &str) -> Connection {
        Connection {
            client: client.to_owned(),
            listener: "192.0.2.100:8443".to_owned(),
            service: Some("apiserver".to_owned()),
            backend: Some("master1".to_owned()),
            address: "192.0.2.31:6443".to_owned(),
            seen_as: Some("192.0.2.100:1024".to_owned()),
            state: "established".to_owned(),
            idle_seconds: 3,
            idle_limit: 7200,
            origin: "own".to_owned(),
        }
    }

    #[test]
    fn peers() {
        let peer_of = |text| peer(text).map(|peer| (peer.address.to_string(), peer.port));
        assert_eq!(peer_of("192.0.2.10"), Ok(("192.0.2.10".to_owned(), None)));
        assert_eq!(peer_of("192.0.2.10:80"), Ok(("192.0.2.10".to_owned(), Some(80))));
        assert_eq!(peer_of("2001:db8::1"), Ok(("2001:db8::1".to_owned(), None)));
        assert_eq!(peer_of("[2001:db8::1]:80"), Ok(("2001:db8::1".to_owned(), Some(80))));
        assert_eq!(peer_of("[2001:db8::1]"), Ok(("2001:db8::1".to_owned(), None)));
        for wrong in ["master1", "192.0.2.10:0", "[192.0.2.10]", "[[2001:db8::1]]", "2001:db8::1]", "192.0.2.10/32"] {
            assert!(peer_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_table_of_connections() {
        let found = Connections {
            connections: vec![
                connection("192.0.2.10:40000"),
                Connection { service: None, backend: None, seen_as: None, ..connection("192.0.2.9:1") },
            ],
            total: 2,
        };
        assert_eq!(
            rendered(&found),
            "CLIENT            LISTENER          SERVICE    BACKEND          SEEN AS           STATE        IDLE  ORIGIN\n\
             192.0.2.10:40000  192.0.2.100:8443  apiserver  master1          192.0.2.100:1024  established    3s  own\n\
             192.0.2.9:1       192.0.2.100:8443  -          192.0.2.31:6443  -                 established    3s  own\n"
        );
    }
}
