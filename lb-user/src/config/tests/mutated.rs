//! Any text at all ends in a configuration or in faults that point into it.

use proptest::prelude::*;

use super::*;

/// Panics unless `text` is accepted or has faults inside of it.
fn judge(text: &str) {
    let Err(faults) = parse(text, "f", &here()) else {
        return;
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<_> = text.split('\n').collect();
    let mut before = (1, 1);
    for Fault { line, column, what, remedy } in faults.iter() {
        let width = lines[line - 1].chars().count();
        assert!((1..=width + 1).contains(column), "{line}:{column}: {what}\n{text}");
        assert!((*line, *column) >= before, "{line}:{column} is out of order\n{text}");
        assert!(!what.is_empty() && !remedy.is_empty());
        assert!(!what.contains("without a reason"), "{text}");
        before = (*line, *column);
    }
    assert_eq!(faults.to_string().lines().count(), faults.iter().count(), "a line each\n{faults}");
}

#[test]
fn every_beginning() {
    for text in [SHIPPED, BASE] {
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            judge(&text[..end]);
        }
    }
}

#[test]
fn every_line_missing_and_twice_and_moved() {
    let lines: Vec<_> = SHIPPED.lines().filter(|line| !line.starts_with('#')).collect();
    for at in 0..lines.len() {
        let mut fewer = lines.clone();
        let line = fewer.remove(at);
        judge(&fewer.join("\n"));
        for to in 0..fewer.len() {
            let mut moved = fewer.clone();
            moved.insert(to, line);
            judge(&moved.join("\n"));
        }
        let mut more = lines.clone();
        more.insert(at, line);
        judge(&more.join("\n"));
    }
}

#[test]
fn every_value_another() {
    let long = format!("{:?}", "é".repeat(5000));
    let values = [
        "0",
        "-1",
        "1.5",
        "nan",
        "true",
        "\"\"",
        "[]",
        "{}",
        "[[]]",
        "[1, \"x\", {}]",
        "1979-05-27",
        "\"\\u0000\\n\"",
        "9223372036854775807",
        "\"255.255.255.255/0\"",
        "\"0-0/\"",
        "\"99999999999999999999h\"",
        "\"é:é\"",
        &long,
    ];
    for (index, line) in BASE.lines().enumerate() {
        let Some((key, _)) = line.split_once(" = ") else {
            continue;
        };
        for value in values {
            let mut lines: Vec<_> = BASE.lines().map(str::to_owned).collect();
            lines[index] = format!("{key} = {value}");
            let text = lines.join("\n");
            judge(&text);
            // Some of these are names.
            let good = parse(&text, "f", &here()).is_ok();
            assert!(!good || key == "name", "{text}");
        }
    }
}

proptest! {
    #[test]
    fn flipped_bytes(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        for text in [SHIPPED, BASE] {
            let mut bytes = text.as_bytes().to_vec();
            for (index, byte) in &flips {
                let index = index.index(bytes.len());
                bytes[index] = *byte;
            }
            judge(&String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn spliced_pieces(pieces in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize), 1..20)) {
        let characters: Vec<_> = BASE.chars().collect();
        let mut text = String::new();
        for (start, length) in pieces {
            let start = start.index(characters.len());
            text.extend(&characters[start..(start + length).min(characters.len())]);
        }
        judge(&text);
    }

    #[test]
    fn any_text(text in "\\PC*") {
        judge(&text);
    }

    #[test]
    fn durations_are_read_back(millis in 0..u64::from(u32::MAX)) {
        let duration = std::time::Duration::from_millis(millis);
        prop_assert_eq!(values::duration(&values::spell(duration)), Ok(duration));
    }
}

#[test]
fn many_faults_on_one_long_line_take_no_time_to_speak_of() {
    let keys: Vec<_> = (0..60_000).map(|n| format!("k{n}=1")).collect();
    let text = format!("node = {{{}}}", keys.join(","));
    let faults = parse(&text, "f", &here()).unwrap_err();
    // The keys, no interface, no service.
    assert_eq!(faults.iter().count(), 60_002);
}
