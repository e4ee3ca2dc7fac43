//! How lines of keepalived.conf are read.

use super::*;

/// A tree in one line: words, and blocks in braces.
fn shown(tree: &[Statement]) -> String {
    let one = |statement: &Statement| match &statement.block {
        Some(block) => format!("{} {{{}}}", statement.words.join("|"), shown(block)),
        None => statement.words.join("|"),
    };
    tree.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[track_caller]
fn reads(text: &str, expected: &str) {
    let tree = parse(text, "f", "lb1").unwrap_or_else(|notes| panic!("{notes:?}"));
    assert_eq!(shown(&tree.statements), expected, "{text}");
}

#[test]
fn words_comments_and_blocks() {
    reads("! one\n# two\na b # c\nd !e\n", "a|b; d");
    reads("a {\n b 1\n c {\n }\n}\nd\n", "a {b|1; c {}}; d");
    reads("a x{\n b\n}\n", "a|x {b}");
    reads("a x\n{\n b }\n", "a|x {b}");
    reads("a { b } c\n", "a {b}; c");
    reads(
        "script \"killall -0 haproxy # no comment\" 'x \"y\"' a\\ b \"c\\\"d\"\n",
        "script|killall -0 haproxy # no comment|x \"y\"|a b|c\"d",
    );
}

#[test]
fn conditional_lines() {
    reads("@lb1 priority 1\n@lb2 priority 2\n@^lb1 a\n@^lb2 b\n", "priority|1; b");
    reads("@lb2 vrrp_instance a {\n@lb2 }\nc\n", "c");
}

#[test]
fn definitions() {
    reads("$A=eth0\ninterface $A\nx ${A}.5 $Ab $A.5\n", "interface|eth0; x|eth0.5|$Ab|$A.5");
    reads("@lb1 $P=2\n@lb2 $P=1\npriority ${P}\n", "priority|2");
    reads("$A=1\n$B=$A ${A}2\nx $B\n", "x|1|12");
    reads("script \"echo $HOME ${HOME}\"\n", "script|echo $HOME ${HOME}");
    for (text, expected) in [
        ("$A=x \\\ny\n", "f:1: the definition of $A has several lines"),
        ("x ${_PWD}\n", "f:1: ${_PWD} is set by keepalived as it runs"),
    ] {
        let faults = parse(text, "f", "lb1").unwrap_err();
        assert!(faults[0].to_string().starts_with(expected), "{faults:?}");
    }
}

#[test]
fn definitions_do_not_grow_without_bound() {
    let mut text = "$A0=xxxxxxxxxx\n".to_owned();
    for step in 1..40 {
        text.push_str(&format!("$A{step}=${{A{0}}}${{A{0}}}\n", step - 1));
    }
    let faults = parse(&text, "f", "lb1").unwrap_err();
    assert!(faults[0].text.contains("more than 16384 bytes"), "{faults:?}");
}

#[test]
fn blocks_are_not_endlessly_deep() {
    let faults = parse(&"a {\n".repeat(1000), "f", "lb1").unwrap_err();
    assert!(faults.iter().any(|fault| fault.text.contains("more than 16 deep")));
}

#[test]
fn what_is_included_stands_in_its_place() {
    let load = |pattern: &str, from: &str| match pattern {
        "b" => {
            Ok(vec![("dir/b".to_owned(), format!("$X=1\nfrom {from}\n")), ("dir/c".to_owned(), "}\nc {\n".to_owned())])
        }
        "itself" => Ok(vec![("itself".to_owned(), "include itself\n".to_owned())]),
        _ => Err(format!("{pattern} is not there")),
    };
    let mut reader = Reader::new("lb1", load);
    reader.read("a {\ninclude b\nx $X\n}\n", "a");
    let (tree, notes) = reader.finish();
    assert!(!notes.has_faults());
    assert_eq!(shown(&tree.statements), "a {from|a}; c {x|1}");
    assert_eq!((&*tree.statements[1].place.file, tree.statements[1].place.line), ("dir/c", 2));

    let mut reader = Reader::new("lb1", load);
    reader.read("include itself\ninclude none\n", "a");
    let faults: Vec<_> = reader.finish().1.into_faults().iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert_eq!(faults[0], "a:2: none is not there");
    assert!(faults[1].starts_with("itself:1: itself: includes are more than 8 deep"), "{faults:?}");
}
