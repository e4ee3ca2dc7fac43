//! What the Markdown files say of other places is there: links, anchors, and configurations that `xvip check` takes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests fail as tests do")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use lb_ebpf::abi::{Reason, Verdict};
use xvip::config::{Env, parse};
use xvip_tests::book::{self, Page};

/// Every Markdown file of the repository, by its path from the top.
fn pages() -> BTreeMap<PathBuf, Page> {
    let mut pages = BTreeMap::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(book::root().join(&directory)).unwrap().map(Result::unwrap) {
            let (name, path) = (entry.file_name(), directory.join(entry.file_name()));
            // What was built, and other people's.
            if name.as_encoded_bytes().starts_with(b".") || name == "target" || name == "node_modules" {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.insert(path.clone(), book::read(&path).unwrap());
            }
        }
    }
    pages
}

/// `from/to` without `.` and `..`; nothing where it leaves the repository.
fn joined(from: &Path, to: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in from.join(to).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => path.pop().then_some(())?,
            _ => {}
        }
    }
    Some(path)
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    assert!(pages.contains_key(Path::new("docs/README.md")), "{:?}", pages.keys());
    let mut dead = Vec::new();
    for (path, page) in &pages {
        for (line, link) in &page.links {
            if ["https://", "http://", "mailto:"].iter().any(|scheme| link.starts_with(scheme)) {
                continue;
            }
            let (file, anchor) =
                link.split_once('#').map_or((link.as_str(), None), |(file, anchor)| (file, Some(anchor)));
            let directory = path.parent().unwrap();
            let target = if file.is_empty() { Some(path.clone()) } else { joined(directory, file) };
            let leads = target.is_some_and(|target| match (pages.get(&target), anchor) {
                (Some(of), Some(anchor)) => of.anchors.contains(anchor),
                (None, Some(_)) => false,
                (_, None) => book::root().join(target).exists(),
            });
            if !leads {
                dead.push(format!("{}:{line}: {link}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
}

/// Where a path of a source file may be said from, besides the top and the page's own directory.
const FROM: [&str; 4] = ["lb-user/src", "lb-user/proto/src", "lb-ebpf", "lb-ebpf/src"];

/// Whether this is the name of a file or directory below the top rather than of something on a node.
fn is_path(code: &str) -> bool {
    const KINDS: [&str; 5] = [".rs", ".md", ".toml", ".yml", ".json"];
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    let path = code.strip_suffix('/').unwrap_or(code);
    let top = path.split_once('/').filter(|_| path.split('/').all(plain)).map(|(top, _)| top);
    // What was built need not be there.
    top.is_some_and(|top| {
        top != "target" && (KINDS.iter().any(|kind| path.ends_with(kind)) || book::root().join(top).is_dir())
    })
}

#[test]
fn files_that_are_named_are_there() {
    let mut named = 0;
    let mut missing = Vec::new();
    for (path, page) in &pages() {
        for (line, code) in page.codes.iter().filter(|(_, code)| is_path(code)) {
            named += 1;
            let beside = path.parent().unwrap();
            let mut from = FROM.into_iter().map(Path::new).chain([Path::new(""), beside]);
            if !from.any(|from| book::root().join(from).join(code).exists()) {
                missing.push(format!("{}:{line}: {code}", path.display()));
            }
        }
    }
    assert!(named > 40, "{named}");
    assert!(missing.is_empty(), "files that are not there:\n{}", missing.join("\n"));
}

#[test]
fn every_page_of_the_book_is_in_its_contents() {
    let pages = pages();
    let contents: Vec<_> = pages[Path::new("docs/README.md")].links.iter().map(|(_, link)| link.as_str()).collect();
    for path in pages.keys().filter(|path| path.parent() == Some(Path::new("docs"))) {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name == "README.md" || contents.contains(&name), "docs/README.md does not name {name}");
    }
}

#[test]
fn every_reason_for_a_client_to_fail_is_explained() {
    let text = fs::read_to_string(book::root().join("docs/troubleshooting.md")).unwrap();
    let fails = |reason: &&Reason| matches!(reason.verdict(), Verdict::Drop | Verdict::Reply);
    for reason in Reason::ALL.iter().filter(fails) {
        assert!(text.contains(&format!("`{}`", reason.label())), "docs/troubleshooting.md is without {reason:?}");
    }
}

#[test]
fn configurations_are_good() {
    let shipped = fs::read_to_string(book::root().join("config/xvip.toml")).unwrap();
    // `node.name` is the host's by default.
    let env = Env { host_name: "lb1".to_owned(), memory: 0 };
    let mut seen = 0;
    for (path, page) in pages() {
        for block in page.blocks.iter().filter(|block| block.language == "toml") {
            let at = format!("{}:{}", path.display(), block.line);
            // What is a part is added to the file that ships, in place of what that says of the same.
            let whole = block.text.contains("[node]");
            let text =
                if whole { block.text.clone() } else { format!("{}\n{}", without(&shipped, &block.text), block.text) };
            parse(&text, &at, &env).unwrap_or_else(|faults| panic!("{at}:\n{faults}"));
            seen += 1;
        }
    }
    assert!(seen > 0);
}

/// A configuration without the tables that another one has too.
fn without(whole: &str, part: &str) -> String {
    let is_table = |line: &&str| line.starts_with('[') && !line.starts_with("[[");
    let theirs: Vec<&str> = part.lines().filter(is_table).collect();
    let mut leaves = false;
    let stays = whole.lines().filter(|line| {
        if line.starts_with('[') {
            leaves = theirs.contains(line);
        }
        !leaves
    });
    stays.map(|line| format!("{line}\n")).collect()
}
