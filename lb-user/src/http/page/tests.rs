//! What the page says, and that hostile names say nothing.

use super::*;
use crate::http::history::History;
use crate::status::example::{NOW, example};
use std::sync::Arc;
use std::time::Duration;

fn rendered(status: &Status, rights: Option<Rights<'_>>) -> String {
    let (mut history, start) = (History::default(), crate::clock::now());
    for second in 0..12 {
        history.saw(&Arc::new(status.clone()), start + Duration::from_secs(second));
    }
    let faults = ["datapath: not attached".to_owned()];
    let pace = history.pace();
    page(&View { status, faults: &faults, pace: &pace, now: NOW, can_log_in: true, rights }, "0123abcd")
}

#[test]
fn everything_is_there() {
    let html = rendered(&example(), None);
    for part in [
        "<h1>lb1</h1>",
        "192.0.2.100/24",
        "192.0.2.22",
        "connection refused",
        "67%",
        "no_backend",
        "1,200",
        "Every backend of web fails its checks",
        "The last reload was refused",
        "apiserver/master2 drained",
        "Not ready: datapath: not attached",
        "removed from the configuration; connections are reset in 1m 30s",
        "only from 10.0.0.0/8 192.0.2.0/24",
        "New connections a second: 0 now",
        "<a href=\"/login\">Log in</a>",
        "<time datetime=\"2023-11-14T22:13:30.000Z\">2023-11-14 22:13:30</time>",
        "<noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>",
        "<title>not ready · lb1 · xvip</title>",
    ] {
        assert!(html.contains(part), "{part}\n{html}");
    }
    assert!(!html.contains("<form") && !html.contains("<button"), "nobody is logged in");
    assert!(
        !html.contains("src=") && !html.contains("//cdn") && !html.contains("style=") && !html.contains(" onclick")
    );
}

#[test]
fn every_table_says_what_its_cells_are() {
    let rights = Rights { name: "alice", can_log_out: true, token: "token", outcome: None };
    let html = rendered(&example(), Some(rights));
    for table in html.split("<table ").skip(1) {
        let table = table.split("</table>").next().unwrap();
        let columns = table.matches("scope=\"col\"").count();
        for row in table.split("<tr ").skip(2) {
            let cells = row.matches("<td ").count() + row.matches("scope=\"row\"").count();
            assert_eq!(cells, columns, "{row}");
        }
        assert!(table.contains("<caption"), "{table}");
    }
}

#[test]
fn who_may_has_forms() {
    let rights = Rights { name: "<alice>", can_log_out: true, token: "t0ken", outcome: Some((false, "<b>no</b>")) };
    let html = rendered(&example(), Some(rights));
    assert!(html.contains("<span>&lt;alice&gt;</span>") && html.contains("&lt;b&gt;no&lt;/b&gt;"));
    let (forms, tokens) = (html.matches("<form ").count(), html.matches("name=\"token\" value=\"t0ken\"").count());
    // Four backends with two forms each, the active router, and the way out.
    assert_eq!((forms, tokens), (4 * 2 + 1 + 1, forms));
    assert_eq!(html.matches("action=\"/do/step-down\"").count(), 1);
    assert!(html.matches("method=\"post\"").count() == forms && !html.contains("/login"));
    let mut status = example();
    status.services[0].backends[0].state = "draining".to_owned();
    let html = rendered(&status, Some(Rights { name: "a", can_log_out: true, token: "t", outcome: None }));
    assert_eq!(html.matches("value=\"enable\"").count(), 1);
}

#[test]
fn text_from_anywhere_is_text() {
    let evil = "</script><script>alert('x')</script>\" onload=\"x\" '<!--&";
    let json = serde_json::to_string(&example()).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&json).unwrap();
    replace_strings(&mut value, evil);
    let status: Status = serde_json::from_value(value).unwrap();
    let html =
        rendered(&status, Some(Rights { name: evil, can_log_out: true, token: "t", outcome: Some((true, evil)) }));
    let html = html.replace(SCRIPT, "").replace(STYLE, "");
    assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot; onload"));
    assert!(!html.contains("alert('x')") && !html.contains("<!--") && !html.contains("\" onload"));
    assert_eq!((html.matches("<script").count(), html.matches("</script>").count()), (1, 1), "our own alone");
    let html = login(evil, Some(Refusal::Wrong), "n");
    assert!(!html.contains("alert('x')") && !html.contains("<script"));
}

/// Puts `text` in place of every string.
fn replace_strings(value: &mut serde_json::Value, text: &str) {
    use serde_json::Value;
    match value {
        Value::String(s) => text.clone_into(s),
        Value::Array(a) => a.iter_mut().for_each(|v| replace_strings(v, text)),
        Value::Object(o) => o.values_mut().for_each(|v| replace_strings(v, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn an_empty_status_is_a_page_too() {
    let mut status = example();
    status.vrrp.clear();
    status.services.clear();
    status.events.clear();
    status.datapath.packets.clear();
    status.datapath.tables.clear();
    status.sync = crate::status::SyncStatus::default();
    let html = rendered(&status, None);
    assert!(html.contains("Shared with nobody") && html.contains("None yet."));
}

/// The colours of a scheme by name, from its `:root{...}`.
fn colours(scheme: &str) -> std::collections::BTreeMap<&str, [f64; 3]> {
    let rules = scheme.split_once('{').unwrap().1.split_once('}').unwrap().0;
    let colour = |text: &str| {
        let digits = text.strip_prefix('#')?;
        let wide: String =
            if digits.len() == 3 { digits.chars().flat_map(|d| [d, d]).collect() } else { digits.to_owned() };
        let part = |at: usize| f64::from(u8::from_str_radix(&wide[at..at + 2], 16).unwrap()) / 255.0;
        Some([part(0), part(2), part(4)])
    };
    let pairs = rules.split(';').filter_map(|rule| rule.trim().strip_prefix("--")?.split_once(':'));
    pairs.filter_map(|(name, text)| Some((name, colour(text)?))).collect()
}

/// Relative luminance (WCAG 2.2).
fn luminance(colour: [f64; 3]) -> f64 {
    let [r, g, b] = colour.map(|c| if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) });
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

#[test]
fn everything_can_be_read() {
    let (light, dark) = STYLE.split_once("@media(prefers-color-scheme:dark)").unwrap();
    let dark = dark.split_once('{').unwrap().1;
    for scheme in [colours(light), colours(dark)] {
        assert_eq!(scheme.len(), 13, "{scheme:?}");
        for (text, grounds) in [
            ("text", vec!["ground", "card", "soft"]),
            ("muted", vec!["ground", "card", "soft"]),
            ("good", vec!["good-ground", "card"]),
            ("bad", vec!["bad-ground", "card", "soft"]),
            ("mid", vec!["mid-ground"]),
            ("link", vec!["card", "ground", "soft"]),
        ] {
            for ground in grounds {
                let (a, b) = (luminance(scheme[text]), luminance(scheme[ground]));
                let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                assert!(contrast >= 4.5, "{text} on {ground}: {contrast:.1}");
            }
        }
    }
}
