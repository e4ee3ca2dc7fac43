//! Configurations of haproxy and keepalived, whatever is in them.

use xvip::config::{Env, parse};
use xvip::import::{Input, Kind, Note, convert, haproxy as of_haproxy, keepalived as of_keepalived};

/// Longer texts find nothing that shorter ones do not, and take longer.
const LONGEST: usize = 16 << 10;

/// Reads a configuration of haproxy, and makes one of xvip of it.
pub fn haproxy(data: &[u8]) {
    let text = String::from_utf8_lossy(&data[..data.len().min(LONGEST)]);
    let variable = |name: &str| (name == "HOST").then(|| "192.0.2.31".to_owned());
    match of_haproxy::parse(&text, "haproxy.cfg", variable) {
        Ok(tree) => {
            let input = Input { haproxy: Some(tree), keepalived: None, sources: vec!["haproxy.cfg".to_owned()] };
            converted(&input, &text);
            // Beside a router, what is listened at is compared with its addresses.
            let router = "vrrp_instance a {\nvirtual_router_id 1\nvirtual_ipaddress {\n192.0.2.100/24\n}\n}\n";
            let keepalived = of_keepalived::parse(router, "other", "lb1").ok();
            converted(&Input { keepalived, ..input }, &text);
        }
        Err(notes) => judge(&notes, &text),
    }
}

/// Reads a configuration of keepalived, and makes one of xvip of it.
pub fn keepalived(data: &[u8]) {
    let text = String::from_utf8_lossy(&data[..data.len().min(LONGEST)]);
    match of_keepalived::parse(&text, "keepalived.conf", "lb1") {
        Ok(tree) => {
            let input = Input { haproxy: None, keepalived: Some(tree), sources: vec!["keepalived.conf".to_owned()] };
            converted(&input, &text);
        }
        Err(notes) => judge(&notes, &text),
    }
}

/// What is written is accepted, and the same each time; what is refused has a fault.
fn converted(input: &Input, text: &str) {
    let script = |program: &str| (program == "/check").then(|| "#!/bin/sh\ncurl https://localhost:6443/\n".to_owned());
    let result = convert(input, &script);
    assert_eq!(result, convert(input, &script), "the same files mean the same");
    match result {
        Ok(imported) => {
            let env = Env { host_name: "lb1".to_owned(), memory: 8 << 30 };
            let faults = parse(&imported.text, "xvip.toml", &env).err().map(|faults| faults.to_string());
            assert_eq!(faults, None, "{}", imported.text);
            assert!(!imported.text.contains('\0'));
            assert!(imported.notes.iter().all(|note| note.kind != Kind::Fault));
            judge(&imported.notes, text);
        }
        Err(notes) => {
            assert!(notes.iter().any(|note| note.kind == Kind::Fault), "a refusal without a fault");
            judge(&notes, text);
        }
    }
}

/// Each is one line for a terminal, about a line that is there.
fn judge(notes: &[Note], text: &str) {
    let lines = text.lines().count().max(1);
    for note in notes {
        assert!(!note.to_string().chars().any(char::is_control), "one line without control characters: {note:?}");
        let of_text = matches!(&*note.place.file, "haproxy.cfg" | "keepalived.conf");
        assert!(!of_text || (1..=lines).contains(&note.place.line), "line {} of {lines}: {note}", note.place.line);
    }
}
