//! Configuration files, whatever is in them.

use xvip::config::{Env, parse};

/// Reads a configuration.
///
/// It is accepted, or refused with faults that are each one line, at a place that is in the file, and name a remedy. An accepted
/// one is accepted again.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let env = Env { host_name: "lb1".to_owned(), memory: 8 << 30 };
    match parse(&text, "xvip.toml", &env) {
        Ok(loaded) => {
            let again = parse(&text, "xvip.toml", &env);
            assert!(again.is_ok_and(|again| again.config == loaded.config), "the same text means the same");
            assert!(!loaded.config.node.name.is_empty());
        }
        Err(faults) => {
            let lines = text.lines().count();
            for fault in faults.iter() {
                assert!(fault.line >= 1 && fault.line <= lines + 1, "line {} of {lines}: {fault}", fault.line);
                let length = text.lines().nth(fault.line - 1).map_or(0, |line| line.chars().count());
                assert!(
                    fault.column >= 1 && fault.column <= length + 2,
                    "column {} of {length}: {fault}",
                    fault.column
                );
                assert!(!fault.what.is_empty() && !fault.remedy.is_empty());
                let shown = fault.to_string();
                assert!(!shown.chars().any(char::is_control), "one line without control characters: {shown:?}");
            }
        }
    }
}
