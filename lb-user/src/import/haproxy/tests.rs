//! How lines of haproxy.cfg are divided into words.

use super::*;

fn words(line: &str) -> Vec<String> {
    let variable = |name: &str| (name == "HOST").then(|| "lb 1".to_owned());
    split(line, &variable).unwrap().0
}

#[test]
fn quotes_and_escapes() {
    for (line, expected) in [
        ("", vec![]),
        ("  # nothing", vec![]),
        ("a  b\tc#d", vec!["a", "b", "c"]),
        (r"realm Haproxy\ Statistics\#1 x", vec!["realm", "Haproxy Statistics#1", "x"]),
        (r#"a "b # c" 'd "e" \n $HOST' f"g"'h'"#, vec!["a", "b # c", r#"d "e" \n $HOST"#, "fgh"]),
        (r#""" ''"#, vec!["", ""]),
        (r#""a\"b\\c\$HOST" \'"#, vec![r#"a"b\c$HOST"#, "'"]),
        (r"\x41\x62 \y \", vec!["Ab", r"\y", r"\"]),
        (r#"$HOST "$HOST:80" "${HOST}x" "${NONE-y}""#, vec!["$HOST", "lb 1:80", "lb 1x", "y"]),
    ] {
        assert_eq!(words(line), expected, "{line}");
    }
    assert_eq!(words("a\\r\\n\\t")[0], "a\r\n\t");
}

#[test]
fn variables() {
    let (words, unset) = split(r#"bind "${NONE}:80" "$OTHER""#, &|_| None).unwrap();
    assert_eq!((words, unset.as_deref()), (vec!["bind".into(), ":80".into(), String::new()], Some("NONE")));
    let text =
        "global\n setenv A 1\n presetenv A 2\n presetenv B 3\n unsetenv C\nlisten a\n bind \"$A$B\" \"$C\" \"$D\"\n";
    let tree = parse(text, "f", |name| Some(format!("<{name}>"))).unwrap();
    // What the environment has, presetenv leaves.
    assert_eq!(tree.sections[1].lines[0].words, ["bind", "1<B>", "", "<D>"]);
    assert_eq!(tree.sections[1].lines[0].unset.as_deref(), Some("C"));
}

#[test]
fn sections_and_lines() {
    let tree = parse("\u{feff}# c\r\ndefaults x\r\n\r\n  mode tcp\r\nlisten a from x\n", "f", |_| None).unwrap();
    assert_eq!(tree.sections.len(), 2);
    let [defaults, listen] = tree.sections.as_slice() else { panic!() };
    assert_eq!((defaults.head.place.line, defaults.lines[0].place.line), (2, 4));
    assert_eq!(defaults.lines[0].words, ["mode", "tcp"]);
    assert_eq!(listen.head.words, ["listen", "a", "from", "x"]);
}

#[test]
fn defaults_are_inherited_by_name_or_from_the_last() {
    let text = "defaults one\n mode http\n timeout client 1s\ndefaults two from one\n timeout client 2s\n\
                frontend a\nfrontend b from one\ndefaults\nfrontend c\n";
    let tree = parse(text, "f", |_| None).unwrap();
    let mut notes = Notes::default();
    let seen: Vec<_> = read(&tree, &mut notes)
        .into_iter()
        .map(|proxy| (proxy.settings.mode, proxy.settings.client.map(|time| time.value.as_secs())))
        .collect();
    assert_eq!(seen, [(Mode::Http, Some(2)), (Mode::Http, Some(1)), (Mode::Tcp, None)]);
    assert!(notes.sorted().is_empty());
}

#[test]
fn a_file_begins_without_a_section() {
    let mut reader = Reader::new(|_: &str| None);
    reader.read("global\n", "a.cfg");
    reader.read(" daemon\n", "b.cfg");
    let (_, notes) = reader.finish();
    let faults: Vec<_> = notes.into_faults().iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].starts_with("b.cfg:1: \"daemon\" stands before any section"), "{faults:?}");
}
