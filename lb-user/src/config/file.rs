//! Reading the file: bounded, without hanging, one clear fault when it cannot be read.

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use super::report::{Report, wrong};
use super::{Env, Faults};

/// A file of all the backends there may be, 8192, is about this long.
const MAX_BYTES: u64 = 1 << 20;

/// The text of the file at `path`.
pub(super) fn read(path: &Path) -> Result<String, Faults> {
    let name = path.display().to_string();
    let bytes = read_bytes(path).map_err(|(what, remedy)| Faults::whole_file(&name, what, remedy))?;
    String::from_utf8(bytes).map_err(|error| {
        let (good, bad) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let byte = bad.first().copied().unwrap_or_default();
        let text = String::from_utf8_lossy(good);
        let report = Report::new(text.strip_prefix('\u{feff}').unwrap_or(&text));
        let what = format!("byte 0x{byte:02x} is not UTF-8");
        report.add(usize::MAX, wrong(what, "save the file as UTF-8 text"));
        report.into_faults(&name).unwrap_or_else(|| Faults::unexplained(&name))
    })
}

/// What the defaults of this host are.
pub(super) fn env() -> Env {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // The memory that a reboot gives again, not what is free now: flows do not survive another size.
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    Env { host_name: name.trim().to_owned(), memory: kilobytes.unwrap_or(0_u64).saturating_mul(1024) }
}

type Refusal = (String, String);

fn read_bytes(path: &Path) -> Result<Vec<u8>, Refusal> {
    // Asked before opening, because opening a device may have effects, and after, because the name may have moved.
    regular(fs::metadata(path).map_err(refusal)?.file_type())?;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(refusal)?;
    regular(file.metadata().map_err(refusal)?.file_type())?;
    bounded(file)
}

fn bounded(file: File) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(refusal)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(("the file is larger than 1 MiB".into(), "name an xvip configuration or shorten it".into()));
    }
    Ok(bytes)
}

fn regular(kind: FileType) -> Result<(), Refusal> {
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "this is a directory"
    } else if kind.is_fifo() {
        "this is a FIFO"
    } else if kind.is_socket() {
        "this is a socket"
    } else {
        "this is a device"
    };
    Err((what.into(), "name a regular file".into()))
}

fn refusal(error: io::Error) -> Refusal {
    let (what, remedy) = match error.kind() {
        io::ErrorKind::NotFound => ("there is no such file", "name the configuration with --config FILE"),
        io::ErrorKind::PermissionDenied => ("the file may not be read", "run as root or make it readable"),
        io::ErrorKind::NotADirectory => {
            ("a part of this path is not a directory", "name the configuration with --config FILE")
        }
        _ => {
            return (format!("the file cannot be read: {error}"), "name a readable file with --config FILE".into());
        }
    };
    (what.into(), remedy.into())
}
