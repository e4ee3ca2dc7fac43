//! `[flow_log]`: off by default, a file or standard output, and how many lines.

use super::*;

#[test]
fn there_is_none_unless_it_is_asked_for() {
    let with = |section: &str| format!("{BASE}\n{section}\n");
    assert_eq!(accept(BASE).config.flow_log, None);
    let log = |to: LogTo, max_lines_per_second| Some(FlowLog { to, max_lines_per_second });
    let of = |section: &str| accept(&with(section)).config.flow_log;
    let file = LogTo::File("/var/log/xvip/flows.log".into());
    assert_eq!(of("[flow_log]\npath = \"/var/log/xvip/flows.log\""), log(file, 1000));
    assert_eq!(of("[flow_log]\npath = \"-\"\nmax_lines_per_second = 20"), log(LogTo::Stdout, 20));
}

#[test]
fn faults() {
    for (section, words) in [
        ("[flow_log]", "path"),
        ("[flow_log]\npath = \"flows.log\"", "write the whole path"),
        ("[flow_log]\npath = \"-\"\nmax_lines_per_second = 0", "whole number from 1 to 100000"),
        ("[flow_log]\npath = \"-\"\nfile = \"x\"", "file"),
    ] {
        let text = format!("{BASE}\n{section}\n");
        let faults = parse(&text, "xvip.toml", &Env::default()).unwrap_err().to_string();
        assert!(faults.contains(words), "{section}: {faults}");
    }
}
