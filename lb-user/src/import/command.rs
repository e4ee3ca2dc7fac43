//! The command: files in, a file and words on standard error out.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::note::{Kind, Note, Notes, Place, shown};
use super::{Imported, Input, convert, files, haproxy, keepalived};

/// Arguments of `import`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ImportArgs {
    /// haproxy's configuration: a file, or a directory of *.cfg; again for each further one, as with haproxy -f
    #[arg(long, value_name = "PATH", required_unless_present = "keepalived")]
    pub haproxy: Vec<PathBuf>,

    /// keepalived's configuration
    #[arg(long, value_name = "FILE")]
    pub keepalived: Option<PathBuf>,

    /// What keepalived's @ lines are chosen by, as with keepalived --config-id; default: the host's name up to its first dot
    #[arg(long, value_name = "NAME")]
    pub config_id: Option<String>,

    /// Where to write the configuration; standard output without
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Replace the output file if it is there
    #[arg(long, requires = "output")]
    pub force: bool,
}

/// Imports; the exit status.
pub fn run(arguments: &ImportArgs) -> u8 {
    let mut stderr = io::stderr().lock();
    let imported = match read(arguments).and_then(|input| {
        let keepalived = arguments.keepalived.clone().unwrap_or_default();
        convert(&input, &|program| files::script(program, &keepalived))
    }) {
        Ok(imported) => imported,
        Err(notes) => {
            report(&mut stderr, &notes);
            let _ = writeln!(stderr, "Nothing is written.");
            return 1;
        }
    };
    let written = match &arguments.output {
        Some(path) => files::write(path, &imported.text, arguments.force),
        None => io::stdout().write_all(imported.text.as_bytes()).map_err(|error| format!("standard output: {error}")),
    };
    report(&mut stderr, &imported.notes);
    let result = match written {
        Ok(()) => summary(&imported, arguments.output.as_deref()),
        Err(error) => format!("{}\nNothing is written.", shown(&error)),
    };
    let failed = result.ends_with("Nothing is written.");
    // Nobody is left to be told.
    let _ = writeln!(stderr, "{result}");
    failed.into()
}

fn report(out: &mut impl io::Write, notes: &[Note]) {
    for note in notes {
        let _ = writeln!(out, "{note}");
    }
}

fn summary(imported: &Imported, output: Option<&Path>) -> String {
    let count = |kind| imported.notes.iter().filter(|note| note.kind == kind).count();
    let mut text = String::new();
    for open in &imported.open {
        text.push_str(&format!("to fill in: {open}\n"));
    }
    let (mistakes, lost) = (count(Kind::Mistake), count(Kind::Lost));
    let open = imported.open.len();
    text.push_str(&format!("{lost} not carried over, {mistakes} mistakes, {open} to fill in"));
    if let Some(path) = output {
        text.push_str(&format!("; {} is written, and `xvip check` takes it", path.display()));
    }
    text
}

/// Reads all files.
fn read(arguments: &ImportArgs) -> Result<Input, Vec<Note>> {
    let mut notes = Notes::default();
    let mut input = Input::default();
    let at = |path: &Path| Place { file: path.display().to_string().into(), line: 1 };
    if !arguments.haproxy.is_empty() {
        let mut reader = haproxy::Reader::new(|name: &str| std::env::var(name).ok());
        for path in &arguments.haproxy {
            let files = match files::of_haproxy(path) {
                Ok(files) => files,
                Err(what) => {
                    notes.fault(&at(path), what);
                    continue;
                }
            };
            for path in files {
                match files::read(&path) {
                    Ok(text) => reader.read(&text, &path.display().to_string()),
                    Err(what) => notes.fault(&at(&path), what),
                }
                input.sources.push(path.display().to_string());
            }
        }
        let (tree, found) = reader.finish();
        notes.extend(found);
        input.haproxy = Some(tree);
    }
    if let Some(path) = &arguments.keepalived {
        let id = arguments.config_id.clone().unwrap_or_else(host);
        let mut includes = files::Includes::default();
        let mut reader = keepalived::Reader::new(&id, |pattern: &str, from: &str| includes.load(pattern, from));
        match files::read(path) {
            Ok(text) => reader.read(&text, &path.display().to_string()),
            Err(what) => notes.fault(&at(path), what),
        }
        let (tree, found) = reader.finish();
        notes.extend(found);
        input.keepalived = Some(tree);
        input.sources.push(path.display().to_string());
    }
    match notes.has_faults() {
        false => Ok(input),
        true => Err(notes.into_faults()),
    }
}

/// The host's name up to its first dot.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().split('.').next().unwrap_or_default().to_owned()
}
