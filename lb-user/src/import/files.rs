//! Reading and writing the files of an import: bounded, without hanging, and nothing half-written.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::keepalived::Included;

/// Bytes of a file.
const LARGEST: u64 = 1 << 20;
/// Files of a directory or pattern, and all that are included.
const MOST: usize = 256;

/// The text of a regular file; what is not UTF-8 in it becomes U+FFFD, which is no part of a word that is used.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let refuse = |what: &dyn std::fmt::Display| format!("{what}, name a file of text that can be read");
    // A FIFO would make us wait; what is no regular file is not opened for reading.
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(|error| refuse(&error))?;
    if !file.metadata().is_ok_and(|about| about.is_file()) {
        return Err(refuse(&"it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| refuse(&error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(refuse(&"it is larger than 1 MiB"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The files that haproxy reads for an argument of -f: the file, or those of the directory whose names end in .cfg.
pub(super) fn of_haproxy(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let is_ours = |path: &PathBuf| path.extension() == Some(OsStr::new("cfg")) && path.is_file();
    let files = listed(path).map_err(|error| error.to_string())?.into_iter().filter(is_ours).collect::<Vec<_>>();
    match files.len() {
        0 => Err("the directory has no file whose name ends in .cfg".to_owned()),
        1..=MOST => Ok(files),
        _ => Err(format!("the directory has more than {MOST} files")),
    }
}

/// The files of a directory, in the order of their names.
fn listed(directory: &Path) -> io::Result<Vec<PathBuf>> {
    // Bounded before it is sorted: a directory may be endless.
    let entries = fs::read_dir(directory)?.take(100 * MOST).map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Reads what keepalived includes; as many files as [`MOST`] in all.
#[derive(Debug, Default)]
pub(super) struct Includes {
    count: usize,
}

impl Includes {
    /// The files that a pattern in `from` names. One without wildcards that names no file is an error; one with them may match nothing.
    pub(super) fn load(&mut self, pattern: &str, from: &str) -> Result<Vec<Included>, String> {
        let base = Path::new(from).parent().unwrap_or(Path::new(""));
        let pattern_path = base.join(pattern);
        let paths = match pattern.contains(['*', '?', '[']) {
            true => matches(&pattern_path),
            false => vec![pattern_path],
        };
        self.count += paths.len();
        if self.count > MOST {
            return Err(format!("{pattern}: more than {MOST} files are included"));
        }
        let load = |path: PathBuf| {
            let text = read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok((path.display().to_string(), text))
        };
        paths.into_iter().map(load).collect()
    }
}

/// The regular files that a pattern names, in the order of their names.
fn matches(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let part = part.as_os_str();
        let text = part.to_string_lossy();
        if !text.contains(['*', '?', '[']) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let within = |directory: &PathBuf| {
            let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            listed(directory).unwrap_or_default()
        };
        let like = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // What begins with a dot is hidden from wildcards.
            (!name.starts_with('.') || text.starts_with('.')) && is_like(&text, &name)
        };
        found = found.iter().flat_map(within).filter(like).take(100 * MOST).collect();
    }
    found.retain(|path| path.is_file());
    found
}

/// Whether a name is like a pattern with *, ? and [...].
fn is_like(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last star stood, and how much it had taken: it is tried with one more when the rest does not fit.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let one = match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some('?') => Some(p + 1),
            Some('[') => class(&pattern, p, name[n]),
            Some(c) if *c == name[n] => Some(p + 1),
            _ => None,
        };
        match (one, star) {
            (Some(next), _) => (p, n) = (next, n + 1),
            (None, Some((at, taken))) => {
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Where the pattern goes on after the class that begins at `from`, if `c` is in it.
fn class(pattern: &[char], from: usize, c: char) -> Option<usize> {
    let end = from + 2 + pattern.get(from + 2..)?.iter().position(|c| *c == ']')?;
    let (not, inner) = match &pattern[from + 1..end] {
        ['!' | '^', rest @ ..] => (true, rest),
        inner => (false, inner),
    };
    let mut within = false;
    let mut at = 0;
    while let Some(first) = inner.get(at) {
        match inner.get(at + 1..at + 3) {
            Some(['-', last]) => {
                within |= (*first..=*last).contains(&c);
                at += 3;
            }
            _ => {
                within |= *first == c;
                at += 1;
            }
        }
    }
    (within != not).then_some(end + 1)
}

/// The text of a script, where it is there: at its path, or beside keepalived's file, where copies of it may be.
pub(super) fn script(program: &str, keepalived: &Path) -> Option<String> {
    let path = Path::new(program);
    let beside = keepalived.parent().unwrap_or(Path::new("")).join(path.file_name()?);
    [path.to_owned(), beside].into_iter().find_map(|path| read(&path).ok()).filter(|text| text.starts_with("#!"))
}

/// Writes a file whole or not at all; one that is there is replaced only if `replace`.
///
/// # Errors
/// What failed, with the path.
pub(super) fn write(path: &Path, text: &str, replace: bool) -> Result<(), String> {
    let refuse = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("{} is there already; name another file, or replace it by --force", path.display())
        }
        _ => format!("{}: {error}", path.display()),
    };
    if !replace && path.symlink_metadata().is_ok() {
        return Err(refuse(io::ErrorKind::AlreadyExists.into()));
    }
    let name = path.file_name().ok_or_else(|| format!("{} is not the name of a file", path.display()))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(hidden);
    let result = write_new(&temporary, text).and_then(|()| match replace {
        true => fs::rename(&temporary, path),
        // Unlike a rename, it fails where a file has come meanwhile.
        false => fs::hard_link(&temporary, path).and_then(|()| fs::remove_file(&temporary)),
    });
    result.map_err(|error| {
        // The error is what counts.
        let _ = fs::remove_file(&temporary);
        refuse(error)
    })
}

/// A file that only its owner and group may read: it may have a password in it.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, like) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a?c*", "abcd", true),
            ("a?c", "ac", false),
            ("[a-c]*", "b1", true),
            ("[!a-c]*", "b1", false),
            ("[a-c", "a", false),
            ("[]x]", "]", true),
            ("**a**b", "xxaxxb", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(is_like(pattern, name), like, "{pattern} {name}");
        }
        // What would take for ever if each star tried everything.
        assert!(!is_like(&("a*".repeat(30) + "b"), &"a".repeat(200)));
    }

    #[test]
    fn included_files_come_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("keepalived.conf").display().to_string();
        fs::create_dir(dir.path().join("conf.d")).unwrap();
        for name in ["b.conf", "a.conf", ".hidden.conf", "c.bak"] {
            fs::write(dir.path().join("conf.d").join(name), name).unwrap();
        }
        let mut includes = Includes::default();
        let files = includes.load("conf.d/*.conf", &from).unwrap();
        assert_eq!(files.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["a.conf", "b.conf"]);
        assert_eq!(includes.load("none.d/*.conf", &from).unwrap(), []);
        let error = includes.load("none.conf", &from).unwrap_err();
        assert!(error.contains("none.conf: No such file"), "{error}");
        assert!(includes.load("conf.d", &from).unwrap_err().contains("not a regular file"));
        includes.count = MOST;
        assert!(includes.load("conf.d/a.conf", &from).unwrap_err().contains("more than 256 files"));
    }

    #[test]
    fn a_file_is_whole_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("xvip.toml");
        write(&path, "one", false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(write(&path, "two", false).unwrap_err().contains("is there already"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        write(&path, "three", true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
        assert!(write(&dir.path().join("none/xvip.toml"), "four", false).unwrap_err().contains("none/xvip.toml"));
        let left = listed(dir.path()).unwrap();
        assert_eq!(left, [path]);
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.cfg");
        fs::write(&path, b"global\n\xff\n").unwrap();
        assert_eq!(read(&path).unwrap(), "global\n\u{fffd}\n");
        fs::write(&path, vec![b'#'; 1 << 21]).unwrap();
        assert!(read(&path).unwrap_err().contains("larger than 1 MiB"));
        assert!(read(dir.path()).unwrap_err().contains("not a regular file"));
        assert!(of_haproxy(dir.path()).unwrap() == [path]);
        let empty = tempfile::tempdir().unwrap();
        assert!(of_haproxy(empty.path()).is_err());
    }
}
