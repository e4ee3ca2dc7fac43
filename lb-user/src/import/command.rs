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
    let beside = arguments.keepalived.clone().unwrap_or_default();
    let result = read(arguments).and_then(|input| convert(&input, &|program| files::script(program, &beside)));
    // Where nobody listens, nobody is to be told.
    let say = |text: &str| drop(io::stderr().write_all(text.as_bytes()));
    say(&said(&result));
    let Ok(imported) = result else { return 1 };
    let written = match &arguments.output {
        Some(path) => files::write(path, &imported.text, arguments.force),
        None => io::stdout().write_all(imported.text.as_bytes()).map_err(|error| format!("standard output: {error}")),
    };
    match (written, &arguments.output) {
        (Err(error), _) => {
            say(&format!("{}\n{NOTHING}\n", shown(&error)));
            return 1;
        }
        (Ok(()), Some(path)) => say(&format!("{} is written, and `xvip check` takes it.\n", path.display())),
        (Ok(()), None) => {}
    }
    0
}

const NOTHING: &str = "Nothing is written.";

/// What is to be said of what became of files.
pub(super) fn said(result: &Result<Imported, Vec<Note>>) -> String {
    let lines = |notes: &[Note]| notes.iter().map(|note| format!("{note}\n")).collect::<String>();
    match result {
        Ok(imported) => lines(&imported.notes) + &summary(imported),
        Err(notes) => lines(notes) + NOTHING + "\n",
    }
}

fn summary(imported: &Imported) -> String {
    let count = |kind| imported.notes.iter().filter(|note| note.kind == kind).count();
    let open: String = imported.open.iter().map(|open| format!("to fill in: {open}\n")).collect();
    let (mistakes, lost) = (count(Kind::Mistake), count(Kind::Lost));
    format!("{open}not carried over: {lost}; mistakes: {mistakes}; to fill in: {}.\n", imported.open.len())
}

/// Reads all files.
fn read(arguments: &ImportArgs) -> Result<Input, Vec<Note>> {
    let mut notes = Notes::default();
    let mut input = Input::default();
    let at = |path: &Path| Place { file: path.display().to_string().into(), line: 0 };
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
