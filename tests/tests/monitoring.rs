//! What an operator watches, by the real Prometheus: the exposition, the alert rules and the dashboard that ship, against
//! running agents. Needs root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{LIMIT, OFTEN, end, serving, wait};
use serde_json::Value;
use xvip_tests::prometheus::{Prometheus, promtool};
use xvip_tests::scrape::get;
use xvip_tests::topology::{BALANCERS, sharing};
use xvip_tests::until::until;

const DASHBOARD: &str = include_str!("../../config/grafana/xvip.json");
/// Panels that may show nothing while nothing is wrong; promtool and the tests of the definitions check what they ask for.
const SILENT: [&str; 7] = [
    "Failed health checks",
    "Adverts refused",
    "Transitions",
    "Announcements of VIPs",
    "Packets dropped",
    "Packets answered by the datapath",
    "Sync faults",
];
/// Alerts about times, which depend on how busy the machine of the test is.
const TIMES: [&str; 5] =
    ["XvipHandshakesSlow", "XvipSyncLagging", "XvipLeaseOver", "XvipLeaseLapsed", "XvipSynsRetried"];

fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/prometheus").join(file)
}

/// A query of the dashboard, with its variables as Grafana would fill them in, and where it stands.
struct Query {
    panel: String,
    expression: String,
    was_answered: bool,
}

fn queries(dashboard: &Value) -> Vec<Query> {
    let filled = |expression: &str| {
        let mut expression = expression.replace("$__rate_interval", "5s");
        for variable in ["$job", "$instance", "$service"] {
            expression = expression.replace(variable, ".*");
        }
        assert!(!expression.contains('$'), "a variable that nobody fills in: {expression}");
        expression
    };
    let panels = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(|target| (panel["title"].as_str().unwrap(), target["expr"].clone()))
    });
    let annotations = dashboard["annotations"]["list"].as_array().unwrap().iter();
    // Moves of the VIP; the one of Grafana itself asks nothing.
    let annotations = annotations.filter(|annotation| annotation.get("expr").is_some());
    let annotations = annotations.map(|annotation| ("Transitions", annotation["expr"].clone()));
    let all = panels.chain(annotations).map(|(panel, expression)| Query {
        panel: panel.to_owned(),
        expression: filled(expression.as_str().unwrap()),
        was_answered: false,
    });
    all.collect()
}

/// Asks what has not been answered yet; what is still without an answer.
fn ask(prometheus: &Prometheus, queries: &mut [Query]) -> Vec<String> {
    let mut open = Vec::new();
    for query in queries.iter_mut().filter(|query| !query.was_answered) {
        let samples = prometheus.query(&query.expression).unwrap_or_else(|err| panic!("{}: {err:#}", query.panel));
        query.was_answered = samples.iter().any(|(_, value)| !value.is_nan());
        if !query.was_answered && !SILENT.contains(&query.panel.as_str()) {
            open.push(format!("{}: {}", query.panel, query.expression));
        }
    }
    open
}

/// Whether an alert fires with this label.
fn fires(prometheus: &Prometheus, alert: &str, label: &str, value: &str) -> bool {
    let firing = prometheus.firing().unwrap();
    firing.iter().any(|labels| labels["alertname"] == alert && labels[label] == value)
}

#[test]
fn a_real_prometheus_sees_what_is_wrong_and_when_it_is_over() {
    // What ships is good before anything runs.
    let said = promtool(&["check", "rules"], Some(&shipped("alerts.yml")), "").unwrap();
    assert!(said.contains("SUCCESS"), "{said}");
    promtool(&["test", "rules"], Some(&shipped("alerts_test.yml")), "").unwrap();

    let key = tempfile::tempdir().unwrap();
    let sync = format!("{}\n[admin]", sharing(key.path()).unwrap());
    let mut topology = serving(2, &[OFTEN, ("\n[admin]", &format!("\n{sync}"))]);
    let load = topology.load(Duration::from_millis(25), 6).unwrap();
    for balancer in &topology.balancers {
        let text = get(balancer.agent.netns(), ([127, 0, 0, 1], 9910).into(), "/metrics").unwrap();
        let said = promtool(&["check", "metrics"], None, &text).unwrap();
        assert_eq!(said, "", "promtool finds fault with the exposition");
    }

    // The same rules, with less patience.
    let rules = fs::read_to_string(shipped("alerts.yml")).unwrap();
    let patient = |line: &&str| line.trim_start().starts_with("for: ");
    let rules: String = rules.lines().filter(|line| !patient(line)).map(|line| format!("{line}\n")).collect();
    let targets = BALANCERS.map(|(_, address, _)| format!("{address}:9910"));
    let prometheus = Prometheus::start(&topology.client, &[&targets[0], &targets[1]], &rules).unwrap();

    // While nothing is wrong, every panel shows something and no alert fires.
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut queries = queries(&dashboard);
    let mut open = Vec::new();
    until("every panel of the dashboard to show something", LIMIT, || {
        open = ask(&prometheus, &mut queries);
        open.is_empty().then_some(())
    })
    .unwrap_or_else(|err| panic!("{err:#}\n{}\n{}", open.join("\n"), prometheus.log_tail(20)));
    for variable in dashboard["templating"]["list"].as_array().unwrap().iter().skip(1) {
        let query = variable["query"]["query"].as_str().unwrap().replace("$job", ".*");
        let (selector, label) = query.strip_prefix("label_values(").unwrap().rsplit_once(", ").unwrap();
        let values = prometheus.label_values(selector, label.trim_end_matches(')')).unwrap();
        let expected = match variable["name"].as_str().unwrap() {
            "job" => vec!["xvip".to_owned()],
            "instance" => targets.to_vec(),
            _ => vec!["apiserver".to_owned()],
        };
        assert_eq!(values, expected, "{query}");
    }
    let mut firing = Vec::new();
    until("no alert to fire", LIMIT, || {
        firing = prometheus.firing().unwrap();
        firing.retain(|labels| !TIMES.contains(&labels["alertname"].as_str().unwrap_or_default()));
        firing.is_empty().then_some(())
    })
    .unwrap_or_else(|err| panic!("{err:#}: {firing:?}"));
    let loaded = prometheus.rules().unwrap();
    assert_eq!(loaded.len(), rules.matches("- alert: ").count());
    for rule in &loaded {
        assert_eq!(rule["health"], "ok", "{rule}");
    }

    // An API server dies and comes back.
    topology.servers[2].kill9().unwrap();
    wait("the alert about master3", || fires(&prometheus, "XvipBackendDown", "backend", "master3"));
    assert!(!fires(&prometheus, "XvipBackendDown", "backend", "master1"));
    topology.servers[2].revive().unwrap();
    wait("the alert about master3 to be over", || !fires(&prometheus, "XvipBackendDown", "backend", "master3"));

    // The other balancer is given a file that it refuses, and a good one.
    let owner = topology.owner().unwrap();
    let other = &mut topology.balancers[1 - owner].agent;
    let good = fs::read_to_string(other.config()).unwrap();
    other.write_config(&good.replace("priority", "prioritty")).unwrap();
    other.reload().unwrap();
    wait("the alert about the file", || fires(&prometheus, "XvipConfigRefused", "instance", &targets[1 - owner]));
    other.write_config(&good).unwrap();
    other.reload().unwrap();
    wait("the alert about the file to be over", || {
        !fires(&prometheus, "XvipConfigRefused", "instance", &targets[1 - owner])
    });

    // The holder is stopped: it does not answer, the other one holds the VIP, and nobody stands by.
    topology.balancers[owner].agent.stop(LIMIT).unwrap();
    let alone = |prometheus: &Prometheus| {
        (
            fires(prometheus, "XvipAgentDown", "instance", &targets[owner]),
            fires(prometheus, "XvipNoStandby", "router", "k8s"),
        )
    };
    let mut moved = false;
    wait("the alerts about the holder, and its move in the dashboard", || {
        ask(&prometheus, &mut queries);
        moved |= queries.iter().filter(|query| query.panel == "Transitions").all(|query| query.was_answered);
        moved && alone(&prometheus) == (true, true)
    });
    // The rules' patience is cut short here: a scrape between the two holders may have seen neither.
    wait("the other one to be seen with the VIP", || !fires(&prometheus, "XvipNoVipHolder", "router", "k8s"));
    topology.balancers[owner].agent.start().unwrap();
    wait("the alerts about the holder to be over", || alone(&prometheus) == (false, false));

    // One that is killed between two scrapes, and there again.
    assert!(!fires(&prometheus, "XvipAgentDied", "instance", &targets[owner]), "it was stopped");
    topology.balancers[owner].agent.kill9().unwrap();
    topology.balancers[owner].agent.start().unwrap();
    wait("the alert about its end", || fires(&prometheus, "XvipAgentDied", "instance", &targets[owner]));

    let silent: Vec<_> = queries.iter().filter(|query| !query.was_answered).map(|query| &query.panel).collect();
    println!("{} queries of the dashboard; nothing to show all the while: {silent:?}", queries.len());
    drop((load, prometheus));
    end(topology);
}
