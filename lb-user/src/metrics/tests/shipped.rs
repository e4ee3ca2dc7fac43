//! The alert rules and the dashboard that ship ask for metrics and labels that there are.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::metrics::defs::{ALL, Def, Kind};

const ALERTS: &str = include_str!("../../../../config/prometheus/alerts.yml");
const ALERTS_TEST: &str = include_str!("../../../../config/prometheus/alerts_test.yml");
const DASHBOARD: &str = include_str!("../../../../config/grafana/xvip.json");
/// Labels that Prometheus adds.
const ADDED: [&str; 3] = ["job", "instance", "alertname"];

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The definition of a name that stands in a query, and whether it is one of a histogram's buckets.
fn defined(name: &str) -> (&'static Def, bool) {
    let known = |name: &str| ALL.iter().copied().find(|def| def.name == name);
    if let Some(def) = known(name) {
        assert_ne!(def.kind, Kind::Histogram, "a histogram is asked for by its parts: {name}");
        return (def, false);
    }
    let (base, is_bucket) = match name.strip_suffix("_bucket") {
        Some(base) => (base, true),
        None => (name.trim_end_matches("_count").trim_end_matches("_sum"), false),
    };
    let def = known(base).filter(|def| def.kind == Kind::Histogram);
    (def.unwrap_or_else(|| panic!("nothing is called {name}")), is_bucket)
}

/// Checks every metric in the text, and the labels that are asked of it; the metrics.
fn checked(text: &str) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("xvip_") {
        if text[..at].ends_with(is_of_name) {
            continue;
        }
        let end = text[at..].find(|c| !is_of_name(c)).map_or(text.len(), |length| at + length);
        let (def, is_bucket) = defined(&text[at..end]);
        found.insert(def.name);
        let Some(matchers) = text[end..].strip_prefix('{').and_then(|rest| rest.split_once('}')) else { continue };
        for matcher in matchers.0.split(", ") {
            let label = matcher.split(['=', '!']).next().unwrap_or_default().trim();
            let is_known = def.labels.contains(&label) || ADDED.contains(&label) || (is_bucket && label == "le");
            assert!(is_known, "{} has no label {label}", def.name);
        }
    }
    found
}

#[test]
fn every_metric_and_label_that_is_asked_for_exists() {
    assert!(checked(ALERTS).len() > 20);
    checked(ALERTS_TEST);
    for alert in ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(ALERTS_TEST.contains(&format!("alertname=\"{alert}\"")), "{alert} has no test");
    }
    let shown = checked(&queries().join("\n"));
    // Limits, deadlines and details are looked for where something is wrong; the panels have what leads there.
    let elsewhere = [
        "xvip_backend_transitions_total",
        "xvip_backend_weight",
        "xvip_backend_max_connections",
        "xvip_backend_drain_deadline_timestamp_seconds",
        "xvip_service_max_connections",
        "xvip_vrrp_state_timestamp_seconds",
        "xvip_vrrp_priority",
        "xvip_sync_ended_flows_total",
        "xvip_sync_datagrams_total",
        "xvip_sync_tables_total",
        "xvip_sync_stranger_datagrams_total",
        "xvip_sync_adopted_flows_total",
        "xvip_agent_predecessor_info",
    ];
    let missing: Vec<_> = ALL.iter().map(|def| def.name).filter(|name| !shown.contains(name)).collect();
    assert_eq!(missing, elsewhere);
}

#[test]
fn labels_that_are_summed_by_exist() {
    let labels: BTreeSet<&str> = ALL.iter().flat_map(|def| def.labels).copied().chain(ADDED).chain(["le"]).collect();
    let queries = queries().join("\n");
    for text in [ALERTS, &queries] {
        for grouping in ["by (", "on (", "group_left ("] {
            for (_, rest) in text.match_indices(grouping).map(|(at, _)| text.split_at(at + grouping.len())) {
                let list = rest.split_once(')').unwrap().0;
                for label in list.split(", ").filter(|label| !label.is_empty()) {
                    assert!(labels.contains(label), "{grouping}{list})");
                }
            }
        }
    }
}

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).unwrap()
}

fn queries() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// What Grafana makes of a file that is wrong shows nowhere but in its pictures.
#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + w <= 24, "{title} is wider than the page");
        for cell in (y..y + h).flat_map(|row| (x..x + w).map(move |column| (row, column))) {
            assert!(taken.insert(cell), "{title} lies on another panel");
        }
        if panel["type"] == "row" {
            continue;
        }
        let kinds = ["timeseries", "stat", "state-timeline", "heatmap", "table"];
        assert!(kinds.iter().any(|kind| panel["type"] == *kind), "{title}");
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title} is not explained");
        // By thresholds, Grafana names a state after the threshold it lies above and not after its mapping.
        let colour = &panel["fieldConfig"]["defaults"]["color"]["mode"];
        assert!(panel["type"] != "state-timeline" || colour != "thresholds", "{title} would not name its states");
        let targets = panel["targets"].as_array().unwrap();
        let names: BTreeSet<_> = targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
        assert_eq!(names.len(), targets.len(), "{title}");
        for datasource in targets.iter().map(|target| &target["datasource"]).chain([&panel["datasource"]]) {
            assert_eq!(datasource["uid"], "${datasource}", "{title} is bound to one Prometheus");
        }
        for expression in targets.iter().map(|target| target["expr"].as_str().unwrap()) {
            assert!(expression.contains(r#"job=~"$job", instance=~"$instance""#), "{title} ignores what is selected");
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "job", "instance", "service"]);
    assert!(dashboard["id"].is_null(), "a dashboard that is imported has no number of its own");
}
