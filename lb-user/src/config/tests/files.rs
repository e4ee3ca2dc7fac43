//! Files that cannot be read or are no configuration at all: one clear fault, at once.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::*;

/// The faults of a file, without the directory in front.
fn faults(directory: &Path, name: &str) -> String {
    let path = directory.join(name);
    match load(&path) {
        Ok(_) => panic!("{name} was accepted"),
        Err(faults) => faults.to_string().replace(&format!("{}/", directory.display()), ""),
    }
}

fn write(directory: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn a_good_file_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), "xvip.toml", BASE);
    assert_eq!(load(&path).unwrap().config, accept(BASE).config);
    let link = directory.path().join("link.toml");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(load(&link).unwrap().config, accept(BASE).config);
}

#[test]
fn every_other_file_has_one_fault() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    write(directory, "empty", "");
    write(directory, "blank", "\u{feff} \r\n\t\n");
    write(directory, "nul", format!("{BASE}\n# é\0"));
    write(directory, "latin1", b"[node]\n# caf\xe9\n");
    write(directory, "marked", b"\xef\xbb\xbfx\xff");
    write(directory, "utf16", b"\xff\xfe[\0n\0o\0d\0e\0]\0");
    write(directory, "long", format!("{BASE}#{}", "x".repeat(1 << 20)));
    std::fs::create_dir(directory.join("directory")).unwrap();
    let mode = nix::sys::stat::Mode::S_IRUSR;
    nix::unistd::mkfifo(&directory.join("fifo"), mode).unwrap();
    let _socket = UnixListener::bind(directory.join("socket")).unwrap();

    let expected = [
        ("absent", "absent:1:1: there is no such file, name the configuration with --config FILE"),
        ("empty/x", "empty/x:1:1: a part of this path is not a directory, name the configuration with --config FILE"),
        ("empty", r#"empty:1:1: the file is empty, begin with [node] and interface = "eth0""#),
        ("blank", r#"blank:1:1: the file is empty, begin with [node] and interface = "eth0""#),
        ("nul", "nul:21:4: the file has a NUL byte, save the file as plain UTF-8 text"),
        ("latin1", "latin1:2:6: byte 0xe9 is not UTF-8, save the file as UTF-8 text"),
        ("marked", "marked:1:2: byte 0xff is not UTF-8, save the file as UTF-8 text"),
        ("utf16", "utf16:1:1: byte 0xff is not UTF-8, save the file as UTF-8 text"),
        ("long", "long:1:1: the file is larger than 1 MiB, name an xvip configuration or shorten it"),
        ("directory", "directory:1:1: this is a directory, name a regular file"),
        ("fifo", "fifo:1:1: this is a FIFO, name a regular file"),
        ("socket", "socket:1:1: this is a socket, name a regular file"),
    ];
    for (name, fault) in expected {
        assert_eq!(faults(directory, name), fault);
    }
    let device = load(Path::new("/dev/zero")).unwrap_err().to_string();
    assert_eq!(device, "/dev/zero:1:1: this is a device, name a regular file");
}

#[test]
fn what_is_no_toml_has_one_fault() {
    let deep = format!("a = {}", "[".repeat(100_000));
    let cases = [
        ("[node\n", "1:6: this is not TOML: unclosed table, expected `]`, correct it here"),
        ("[node]\nname =\n", "2:7: this is not a TOML value, put a string in double quotes"),
        ("[node]\nname = lb1\n", "2:8: this is not a TOML value, put a string in double quotes"),
        ("[node]\nname = \"a\"\nname = \"b\"\n", r#"3:1: "name" is defined twice, keep one of the two"#),
        ("[node]\n[admin]\n[node]\n", r#"3:2: "node" is defined twice, keep one of the two"#),
        (
            "é = 1\n",
            "1:1: this is not TOML: invalid unquoted key, expected letters, numbers, `-`, `_`, correct it here",
        ),
        (
            "# é\r\n[node] x\r\n",
            "2:8: this is not TOML: unexpected key or value, expected newline, `#`, correct it here",
        ),
        (&deep, "1:85: this is not TOML: cannot recurse further; max recursion depth met, correct it here"),
    ];
    for (text, fault) in cases {
        assert_eq!(refuse(text), format!("xvip.toml:{fault}"), "{:.80}", text);
    }
}
