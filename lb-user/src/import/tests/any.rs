//! Any text at all ends in a configuration that is accepted, or in notes that point into the text.

use proptest::prelude::*;

use super::*;

const HAPROXY: &str = include_str!("../testdata/several/haproxy.cfg");
const KEEPALIVED: &str = concat!(
    include_str!("../testdata/stacked-nopreempt/keepalived.conf"),
    include_str!("../testdata/several/conf.d/20-api6.conf"),
    "vrrp_sync_group both {\n    group {\n        VI_1\n        api6\n    }\n}\n",
);

/// Panics unless what comes of the texts is as promised.
fn judge(haproxy: &str, keepalived: &str) {
    let notes = match import(haproxy, keepalived) {
        Ok(imported) => {
            let env = config::Env { host_name: "another".to_owned(), memory: 1 << 30 };
            config::parse(&imported.text, "xvip.toml", &env).unwrap_or_else(|faults| panic!("{faults}"));
            imported.notes
        }
        Err(notes) => {
            assert!(notes.iter().any(|note| note.kind == Kind::Fault), "{haproxy}\n--\n{keepalived}");
            notes
        }
    };
    for note in notes {
        let lines = match &*note.place.file {
            "haproxy.cfg" => haproxy.lines().count(),
            "keepalived.conf" => keepalived.lines().count(),
            _ => continue,
        };
        assert!((1..=lines.max(1)).contains(&note.place.line), "{note}");
        assert!(!note.to_string().chars().any(char::is_control), "{note:?}");
    }
}

#[test]
fn every_beginning() {
    for text in [HAPROXY, KEEPALIVED] {
        for end in (0..=text.len()).step_by(3).filter(|end| text.is_char_boundary(*end)) {
            judge(&text[..end], "");
            judge("", &text[..end]);
        }
    }
}

#[test]
fn every_word_another() {
    let words = [
        "0",
        "-1",
        "99999999999999999999",
        "\"",
        "'",
        "\\",
        "{",
        "}",
        "é",
        "192.0.2.1",
        "::",
        "[",
        ":",
        "$X",
        "\"$X\"",
        "from",
        "@lb1",
        "",
    ];
    for (text, is_haproxy) in [(HAPROXY, true), (KEEPALIVED, false)] {
        for (from, found) in text.match_indices(char::is_whitespace).step_by(2) {
            let start = from + found.len();
            let end = text[start..].find(char::is_whitespace).map_or(text.len(), |length| start + length);
            let word = words[from % words.len()];
            let changed = format!("{}{word}{}", &text[..start], &text[end..]);
            if is_haproxy { judge(&changed, KEEPALIVED) } else { judge(HAPROXY, &changed) }
        }
    }
}

/// Lines of the files above and words of their languages, in any order.
fn text() -> impl Strategy<Value = String> {
    let lines: Vec<&'static str> = HAPROXY.lines().chain(KEEPALIVED.lines()).collect();
    let line = prop_oneof![
        4 => proptest::sample::select(lines).prop_map(str::to_owned),
        1 => "[ -~\t]{0,40}",
        1 => "\\PC{0,20}",
    ];
    proptest::collection::vec(line, 0..40).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn any_lines(haproxy in text(), keepalived in text()) {
        judge(&haproxy, &keepalived);
        judge(&haproxy, "");
    }

    #[test]
    fn any_characters(text in any::<String>()) {
        judge(&text, &text);
    }
}
