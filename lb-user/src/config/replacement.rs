//! Replacing the file in two steps: all that can be prepared first, so that whoever has to know whether it can be saved learns
//! it before anything else has changed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom as _, SystemRandom};

/// The end of the names of files that are about to take the place of another.
const NEW: &str = ".new";
/// Octets of chance in such a name: it is twice as many letters.
const CHANCE: usize = 8;

/// Why a file is not replaced.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// Somebody else has written it.
    #[error("{} has changed since it was loaded: `xvip reload` first", .0.display())]
    Changed(PathBuf),
    /// A name in its directory that no other file can be put in the place of.
    #[error("{} is mounted by itself, so that no other file can take its place: mount its directory instead", .0.display())]
    Mounted(PathBuf),
    /// A step failed.
    #[error("cannot {step} {}: {source}{}", .path.display(), remedy(.source))]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EROFS) => {
            "; name its directory in ReadWritePaths= of the unit, or mount it writable in the container"
        }
        Some(libc::EACCES | libc::EPERM) => {
            "; directory and file have to be root's, and writable for it: chown root them"
        }
        _ => "",
    }
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SaveError {
    let path = path.to_owned();
    move |source| match source.raw_os_error() {
        Some(libc::EBUSY) => SaveError::Mounted(path),
        _ => SaveError::Io { step, path, source },
    }
}

/// A text on the disk, beside the file whose place it is to take. Dropped, it is gone.
#[derive(Debug)]
pub struct Replacement {
    path: PathBuf,
    directory: PathBuf,
    expected: String,
    new: PathBuf,
}

impl Replacement {
    /// Writes `text` beside the file at `path`, which has to be `expected` still, with its mode and owner. Where the name is a
    /// link, it is about what that names.
    ///
    /// # Errors
    /// When the file has changed, or its directory or owner do not let it be replaced. Nothing is left behind.
    pub fn prepare(path: &Path, expected: &str, text: &str) -> Result<Self, SaveError> {
        let path = fs::canonicalize(path).map_err(failed("find", path))?;
        let before = fs::metadata(&path).map_err(failed("look at", &path))?;
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        // The rename would be refused, when it is too late to do nothing. Where it is not known, that says so.
        if fs::read("/proc/self/mountinfo").is_ok_and(|mounts| is_mounted(&mounts, &path)) {
            return Err(SaveError::Mounted(path));
        }
        let name = path.file_name().unwrap_or_default();
        remove_leftovers(&directory, name);
        let new = directory.join(new_name(name));
        // Nobody else has it open, and nobody may read it before it has the owner and the mode of the other.
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&new).map_err(failed("make", &new))?;
        let replacement = Self { path, directory, expected: expected.to_owned(), new };
        write(file, &before, text).map_err(failed("write", &replacement.new))?;
        replacement.check()?;
        Ok(replacement)
    }

    fn check(&self) -> Result<(), SaveError> {
        let found = fs::read(&self.path).map_err(failed("read", &self.path))?;
        if found == self.expected.as_bytes() { Ok(()) } else { Err(SaveError::Changed(self.path.clone())) }
    }

    /// Puts it in the place of the file, at once and whole. What is told then is why it may be gone after a loss of power, where
    /// that is so.
    ///
    /// # Errors
    /// When the file has changed, or cannot be replaced after all: it is as it was.
    pub fn put(self) -> Result<Option<SaveError>, SaveError> {
        self.check()?;
        fs::rename(&self.new, &self.path).map_err(failed("replace", &self.path))?;
        let kept = File::open(&self.directory).and_then(|directory| directory.sync_all());
        Ok(kept.map_err(failed("be sure that the disk has", &self.path)).err())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // After a rename there is none; and what stays is removed by the next.
        let _ = fs::remove_file(&self.new);
    }
}

fn write(mut file: File, before: &Metadata, text: &str) -> io::Result<()> {
    // Before it is given away: the mode of what is another's takes CAP_FOWNER, which the agent has not.
    file.set_permissions(before.permissions())?;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
        fchown(&file, Some(before.uid()), Some(before.gid()))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Whether something is mounted at `path` itself, by what the kernel says of mounts (proc_pid_mountinfo(5)).
fn is_mounted(mounts: &[u8], path: &Path) -> bool {
    let escaped = |byte: &u8| match byte {
        b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
        byte => vec![*byte],
    };
    let path: Vec<u8> = path.as_os_str().as_bytes().iter().flat_map(escaped).collect();
    let mut lines = mounts.split(|byte| *byte == b'\n');
    lines.any(|line| line.split(|byte| *byte == b' ').nth(4) == Some(path.as_slice()))
}

fn new_name(name: &OsStr) -> OsString {
    let mut chance = [0; CHANCE];
    // Without random numbers it is one name, which is as good as long as nobody else has it.
    let _ = SystemRandom::new().fill(&mut chance);
    let chance: String = chance.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut new = OsString::from(".");
    new.push(name);
    new.push(format!(".{chance}{NEW}"));
    new
}

fn is_new_name(found: &OsStr, name: &OsStr) -> bool {
    let rest = found.as_bytes().strip_prefix(b".").and_then(|rest| rest.strip_prefix(name.as_bytes()));
    let chance = rest.and_then(|rest| rest.strip_prefix(b".")?.strip_suffix(NEW.as_bytes()));
    chance.is_some_and(|chance| chance.len() == 2 * CHANCE && chance.iter().all(u8::is_ascii_hexdigit))
}

/// Removes what agents have left that were killed in the midst of this.
fn remove_leftovers(directory: &Path, name: &OsStr) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| is_new_name(&entry.file_name(), name)) {
        // What cannot be removed is in nobody's way.
        let _ = fs::remove_file(entry.path());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use tempfile::TempDir;

    use super::*;

    fn replace(path: &Path, expected: &str, text: &str) -> Result<Option<SaveError>, SaveError> {
        Replacement::prepare(path, expected, text)?.put()
    }

    fn directory_with(text: &str) -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap().join("xvip.toml");
        fs::write(&path, text).unwrap();
        (directory, path)
    }

    fn names(directory: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode() {
        let (directory, path) = directory_with("a\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let link = directory.path().join("link.toml");
        symlink(&path, &link).unwrap();
        let prepared = Replacement::prepare(&link, "a\n", "b\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\n", "not yet");
        assert!(prepared.put().unwrap().is_none());
        assert_eq!(fs::read_to_string(&path).unwrap(), "b\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(&directory), ["link.toml", "xvip.toml"]);
    }

    #[test]
    fn what_has_changed_meanwhile_stays() {
        let (directory, path) = directory_with("a\n");
        let refused = replace(&path, "b\n", "c\n").unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("{} has changed since it was loaded: `xvip reload` first", path.display())
        );
        let prepared = Replacement::prepare(&path, "a\n", "c\n").unwrap();
        fs::write(&path, "theirs\n").unwrap();
        assert!(matches!(prepared.put(), Err(SaveError::Changed(_))));
        drop(Replacement::prepare(&path, "theirs\n", "c\n").unwrap());
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(&directory).len()), ("theirs\n", 1));
    }

    #[test]
    fn what_was_left_behind_is_in_nobodys_way() {
        let (directory, path) = directory_with("a\n");
        let left = ".xvip.toml.0123456789abcdef.new";
        let others =
            [".xvip.toml.1", ".xvip.toml.swp", ".xvip.toml.0123456789abcdeg.new", ".other.toml.0123456789abcdef.new"];
        for name in others.into_iter().chain([left]) {
            fs::write(directory.path().join(name), "").unwrap();
        }
        replace(&path, "a\n", "b\n").unwrap();
        replace(&path, "b\n", "c\n").unwrap();
        let mut expected: Vec<_> = others.into_iter().chain(["xvip.toml"]).collect();
        expected.sort_unstable();
        assert_eq!(names(&directory), expected);
    }

    /// With the rights that the agent keeps, on a thread of its own, for these belong to threads.
    #[test]
    fn a_file_of_another_user_is_replaced() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        for (owner, group, mode) in [(4711, 4712, 0o644), (0, 4712, 0o640), (4711, 0, 0o644)] {
            let (directory, path) = directory_with("a\n");
            chown(&path, Some(owner), Some(group)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let own = path.clone();
            let replaced = std::thread::spawn(move || {
                crate::privileges::reduce().unwrap();
                replace(&own, "a\n", "b\n").unwrap()
            });
            assert!(replaced.join().unwrap().is_none());
            let meta = fs::metadata(&path).unwrap();
            assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (owner, group, mode));
            assert_eq!(fs::read_to_string(&path).unwrap(), "b\n");
            assert_eq!(names(&directory), ["xvip.toml"]);
        }
        // A directory in which it may make nothing.
        let (directory, path) = directory_with("a\n");
        chown(directory.path(), Some(4711), None).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let refused = std::thread::spawn(move || {
            crate::privileges::reduce().unwrap();
            replace(&path, "a\n", "b\n").unwrap_err().to_string()
        });
        let refused = refused.join().unwrap();
        assert!(refused.contains("cannot make ") && refused.ends_with("chown root them"), "{refused}");
    }

    #[test]
    fn a_file_that_is_mounted_by_itself_is_known() {
        let mounts = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                       30 22 8:1 /srv/a\\040b /etc/a\\040b/xvip.toml rw - ext4 /dev/sda1 rw\n";
        for (path, mounted) in [
            ("/", true),
            ("/etc/a b/xvip.toml", true),
            ("/etc/a b", false),
            ("/srv/a b", false),
            ("/etc/xvip.toml", false),
        ] {
            assert_eq!(is_mounted(mounts, Path::new(path)), mounted, "{path}");
        }
        assert!(is_mounted(&fs::read("/proc/self/mountinfo").unwrap(), Path::new("/proc")));
    }

    #[test]
    fn a_refusal_has_a_remedy() {
        let path = Path::new("/etc/xvip/xvip.toml");
        for (errno, words) in [
            (libc::EROFS, "ReadWritePaths="),
            (libc::EACCES, "chown root"),
            (libc::EPERM, "chown root"),
            (libc::EBUSY, "mount its directory instead"),
            (libc::ENOSPC, "No space left on device (os error 28)"),
        ] {
            let text = failed("replace", path)(io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.contains(words) && text.contains("/etc/xvip/xvip.toml"), "{text}");
        }
    }
}
