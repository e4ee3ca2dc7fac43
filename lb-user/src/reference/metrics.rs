//! docs/reference/metrics.md: every metric, what its labels say, and the words of the closed sets among them.

use lb_ebpf::abi::Reason;
use lb_proto::health::Outcome;
use lb_proto::sync::Refusal;

use super::{MADE, is_current, reasons};
use crate::bpf::Skipped;
use crate::metrics::defs::ALL;

const HEAD: &str = "\
# Metrics

At `metrics.listen` under `/metrics`, in Prometheus' text format. Names and labels are public interface: more may come, none
changes its meaning. Values of labels come from the configuration or from closed sets, never from the network.

Counters of traffic and packets begin at zero when the datapath's tables are made and outlive the agent; those of events
(health checks, adverts, transitions) begin with the agent.

`config/prometheus/alerts.yml` has alert rules, `config/grafana/xvip.json` a dashboard: import it into Grafana and choose the
data source. A job for Prometheus:

```yaml
rule_files: [alerts.yml]
scrape_configs:
  - job_name: xvip
    scrape_interval: 15s
    static_configs:
      - targets: [\"192.0.2.21:9910\", \"192.0.2.22:9910\"]
```

One job for each group of balancers; alerts compare the nodes of a job.
";

/// What each label says; those with words of their own are described below.
const LABELS: [(&str, &str); 18] = [
    ("service", "`service.name`"),
    ("backend", "`backend.name`"),
    ("router", "`vrrp.name`"),
    ("address", "a virtual address, without its prefix length"),
    ("peer", "address of another balancer, as in `sync.peers`"),
    ("node", "`node.name`"),
    ("role", "`balancer`, `backend`"),
    ("interface", "`node.interface`"),
    ("mode", "`xdp`, `xdp-generic`, `tc`"),
    ("version", "of the agent"),
    ("ended", "`none`, `handed_over`, `died`"),
    (
        "state",
        "of a virtual router: `active`, `backup`, `initialize`, `fault`; of a backend: `up`, `down`, `draining`, `disabled`; of \
         source ports: `in_use`, `resting`, `free`",
    ),
    (
        "to",
        "the state entered: of a virtual router as above; of a backend `up`, `down`, and `lost`, which is down for so long that \
         its connections are reset",
    ),
    ("direction", "of traffic: `in` from clients, `out` to clients; of messages: `sent`, `received`"),
    (
        "table",
        "`established`, `half_open`, and with `_ipv6` the same of IPv6; `limited_sources`, sources whose new connections are \
         limited; `full_sources`, sources that have as many as they may; `allowed`, prefixes of allow lists",
    ),
    (
        "result",
        "of a health check: below; of a reload: `applied`, `refused`; of another balancer's flows: `taken`, or why not, below",
    ),
    ("verdict", "`pass`, `forward`, `deliver`, `reply`, `drop`: below"),
    (
        "reason",
        "of a packet, of an advert that was refused, of a message that was not believed: below; of a SYN that went on: \
                `refused`, `unanswered`",
    ),
];

const RESULTS: [&str; 15] = [
    "the check succeeded",
    "the server answered with a 5xx status that is not expected: it takes no new connections at once",
    "another status that is not expected, such as 404: correct `path` or `expect_status`",
    "401 or 403: allow anonymous access to the path, or give the check a client certificate",
    "the answer is not HTTP, or longer than a check reads",
    "the connection ended before a whole answer had come",
    "TLS was refused by one of both sides: the certificate, `ca_file`, `server_name`",
    "no connection in time: the host is down, or packets get lost",
    "no TLS handshake in time: the host is overloaded, or the port speaks something else",
    "no answer in time: the server is overloaded",
    "the host refused the connection: nothing listens there",
    "the host could not be reached, such as for want of a route",
    "mode \"dsr\": no agent answers on the backend's node",
    "mode \"dsr\": the agent on the backend's node does not deliver",
    "this node could not ask (no file descriptor, no port, no memory); it counts neither for nor against the backend",
];

/// Words of [`LABELS`]' `reason` for adverts. Those that only say that bytes are none of VRRP's are one row.
const ADVERTS: [(&str, &str); 17] = [
    ("checksum", "the checksum is wrong: a broken sender, or one that leaves the pseudo-header out (`checksum`)"),
    ("version", "another version of VRRP: set `version` alike on all routers of the group"),
    ("vrid", "for another virtual router on the segment: nothing to do"),
    ("ttl", "it crossed a router, or its sender does not use 255 (keepalived: `unicast_ttl 255`)"),
    ("not_peer", "it came by unicast from an address that is not in `unicast_peers`"),
    ("own_address", "it has this node's address: it was reflected, or another node has that address"),
    ("source", "its source address cannot be one"),
    ("not_running", "this router takes no part in the election: the ordinary course of things in fault"),
    ("auth_type", "version 2, and another kind of authentication than here: `auth_pass`"),
    ("auth_failed", "another password (`auth_pass`) or key (`auth_key_file`), or somebody forges adverts"),
    ("auth_missing", "not authenticated, and this router has an `auth_key_file`: give it to all"),
    ("auth_key", "authenticated by a key that is not in `auth_key_file`"),
    ("auth_replayed", "it came before: somebody plays recordings back"),
    ("auth_stale", "its number is an old one, and its sender was not heard before"),
    ("mismatch_addresses", "believed all the same: it names other `virtual_addresses`"),
    ("mismatch_interval", "believed all the same: its `advert_interval` is another"),
    (
        "truncated, type, count_zero, vrid_zero, interval_zero, ipv4_*",
        "not an advert as the RFCs have it: a broken sender, or somebody who tries",
    ),
];

fn refusal(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Malformed => "it is none",
        Refusal::Form => "another version of the protocol: update the older one",
        Refusal::Stranger => "from an address of no peer",
        Refusal::Session => "of a session that is over: a few after a restart are nothing to worry about",
        Refusal::Proof => "not made with our key: another `key_file` there, or somebody forges messages",
        Refusal::Replay => {
            "it came before, or too late: the network repeats packets, or somebody plays recordings back"
        }
        Refusal::Reflected => "our own, sent back",
        Refusal::Ahead => "ahead of what may be under way",
    }
}

fn skipped(reason: Skipped) -> &'static str {
    match reason {
        Skipped::NoService => "no service listens there on this node: configure all balancers alike",
        Skipped::NoBackend => "the service has no such backend on this node: configure all balancers alike",
        Skipped::NoSource => {
            "the backend sees a source address that this node would not use: `source_addresses` differ"
        }
        Skipped::NotHere => "its backend is this node itself, which has no such flow",
        Skipped::Newer => "this node has a newer flow under these addresses",
        Skipped::Full => "the table of flows is full: raise `max_flows`",
        Skipped::Refused => "the record contradicts itself, or a table could not be read or written",
    }
}

fn table<const N: usize>(text: &mut String, head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    text.push_str(&format!("\n| {} |\n|{}\n", head.join(" | "), " --- |".repeat(N)));
    for row in rows {
        let cells = row.map(|cell| cell.replace('|', "\\|"));
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
}

fn code(word: &str) -> String {
    format!("`{word}`")
}

fn written() -> String {
    let mut text = format!("{MADE}\n\n{HEAD}");
    table(
        &mut text,
        ["metric", "kind", "labels", "what it says"],
        ALL.iter().map(|def| {
            let labels: Vec<_> = def.labels.iter().map(|label| code(label)).collect();
            [code(def.name), format!("{:?}", def.kind).to_lowercase(), labels.join(", "), def.help.to_owned()]
        }),
    );
    text.push_str("\n## Labels\n");
    table(&mut text, ["label", "values"], LABELS.map(|(label, says)| [code(label), says.to_owned()]));
    text.push_str(
        "\n## Verdicts and reasons of packets\n\nEach packet that the datapath sees counts once. `pass`: on to the host's own \
         stack, unchanged. `forward`: on to a backend or a client. `deliver`: the same through the host's own stack. `reply`: back \
         to its sender, as an answer. `drop`: nowhere.\n",
    );
    let reason = |reason: &Reason| {
        [
            code(reason.label()),
            reason.verdict().label().to_owned(),
            reason.meaning().to_owned(),
            reasons::remedy(*reason).to_owned(),
        ]
    };
    table(
        &mut text,
        ["reason", "verdict", "what it means", "what to do when there are many"],
        Reason::ALL.iter().map(reason),
    );
    text.push_str("\n## Results of health checks\n");
    let results = Outcome::RESULTS.iter().zip(RESULTS);
    table(&mut text, ["result", "what it means"], results.map(|(word, says)| [code(word), says.to_owned()]));
    text.push_str("\n## Reasons of adverts that were refused\n");
    let adverts = ADVERTS.map(|(words, says)| {
        let words: Vec<_> = words.split(", ").map(code).collect();
        [words.join(", "), says.to_owned()]
    });
    table(&mut text, ["reason", "what it means"], adverts);
    text.push_str("\n## Reasons of messages between balancers that were not believed\n");
    let refusals = Refusal::ALL.iter().filter(|reason| **reason != Refusal::Stranger);
    let refusals = refusals.map(|reason| [code(reason.reason()), refusal(*reason).to_owned()]);
    table(&mut text, ["reason", "what it means"], refusals);
    text.push_str("\n## Why flows of other balancers were not taken\n");
    let flows = Skipped::ALL.map(|reason| [code(reason.label()), skipped(reason).to_owned()]);
    table(&mut text, ["result", "what it means"], flows);
    text
}

#[test]
fn the_reference_of_metrics_is_current() {
    let labels: std::collections::BTreeSet<_> = ALL.iter().flat_map(|def| def.labels).copied().collect();
    let described = LABELS.iter().map(|(label, _)| *label).collect();
    assert_eq!(labels, described, "labels that metrics have, and that are described");
    is_current("metrics.md", &written());
}
