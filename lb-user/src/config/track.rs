//! The keys of `[[vrrp.track]]`: what a virtual router heeds besides adverts.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::Section;
use super::report::{Wrong, wrong};
use super::values;

/// `[[vrrp.track]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// What is looked at.
    pub what: Tracked,
    /// What is added to the priority: below zero while it is bad, above while it is good. `None`: while it is bad the virtual
    /// router is in fault.
    pub weight: Option<i16>,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tracked {
    /// Good while it is up and has a carrier.
    Interface(String),
    /// Good while there is a file of this name.
    File(PathBuf),
    /// Good while it ends with status 0.
    Command(TrackCommand),
}

/// A command that is run again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackCommand {
    /// Program and arguments; no shell.
    pub words: Vec<String>,
    /// From one start to the next.
    pub interval: Duration,
    /// When it is killed, which is bad.
    pub timeout: Duration,
    /// So many good ends in a row make it good.
    pub rise: u32,
    /// So many bad ones bad.
    pub fall: u32,
}

impl Tracked {
    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Interface(name) => format!("interface {name:?}"),
            Self::File(path) => format!("file {}", path.display()),
            Self::Command(command) => format!("command {}", command.words.join(" ")),
        }
    }
}

pub(super) fn read(section: &Section<'_>) -> Option<Track> {
    let interface = section.key("interface", r#""eth1""#).text(values::interface).optional();
    let file = section.key("file", r#""/run/xvip-track""#);
    let file = file.text(|text| values::path(text, 4095, "/run/xvip-track")).optional();
    let command_key = section.key("command", r#"["/usr/local/bin/check"]"#);
    let command_given = command_key.given();
    let words = command_key.texts(word);
    let second = Duration::from_secs(1);
    let times = Duration::from_millis(100)..=Duration::from_secs(3600);
    let interval = section.key("interval", r#""1s""#);
    let interval = interval.text(|text| values::duration_in(text, times.clone())).or(second);
    let timeout = section.key("timeout", r#""1s""#).text(|text| values::duration_in(text, times.clone())).or(second);
    let rise = section.key("rise", "2").integer(1..=100_u32).or(2);
    let fall = section.key("fall", "3").integer(1..=100_u32).or(3);
    let weight_key = section.key("weight", "-50");
    let zero = weight_key.is_integer(0);
    let weight = weight_key.integer(-254..=254_i16).optional();
    section.finish();

    if zero && let Some(at) = weight_key.given() {
        let remedy = "write another number, or remove it, so that the virtual router is in fault while it is bad";
        section.report.add(at, wrong("weight 0 changes nothing", remedy));
    }
    let (interface, file) = (interface?, file?);
    let given = usize::from(interface.is_some()) + usize::from(file.is_some()) + usize::from(command_given.is_some());
    if given != 1 {
        let what = format!("[[vrrp.track]] has {given} of interface, file and command");
        section.report.add(section.at, wrong(what, "write exactly one, and a [[vrrp.track]] for each of several"));
        return None;
    }
    let what = match (interface, file) {
        (Some(interface), _) => Tracked::Interface(interface.value),
        (_, Some(file)) => Tracked::File(file.value),
        _ => Tracked::Command(TrackCommand {
            words: program(section, command_given?, words.values()?)?,
            interval: interval?.value,
            timeout: timeout?.value,
            rise: rise?.value,
            fall: fall?.value,
        }),
    };
    Some(Track { what, weight: weight?.map(|weight| weight.value) })
}

/// A command with arguments: the first word is the path of a program.
pub(super) fn program(section: &Section<'_>, at: usize, words: Vec<String>) -> Option<Vec<String>> {
    match words.first() {
        Some(first) if first.starts_with('/') => Some(words),
        Some(first) => {
            let what = format!("the command {first:?} is not the whole path of a program");
            section
                .report
                .add(at, wrong(what, r#"write one such as ["/usr/local/bin/program", "argument"], no shell"#));
            None
        }
        None => {
            section.report.add(at, wrong("the command is empty", r#"write one such as ["/usr/local/bin/program"]"#));
            None
        }
    }
}

/// A word of a command.
pub(super) fn word(text: &str) -> Result<String, Wrong> {
    match text.contains('\0') {
        true => Err(wrong("has a NUL character", "remove it")),
        false => Ok(text.to_owned()),
    }
}
