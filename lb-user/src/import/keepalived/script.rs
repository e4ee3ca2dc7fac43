//! `vrrp_script`: commands that keepalived runs to see whether a node is fit for the VIPs.

use std::time::Duration;

use super::super::note::{Notes, Place, nearest};
use super::Statement;

/// A `vrrp_script`.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) place: Place,
    pub(super) name: String,
    /// Where the command stands, and the command.
    pub(super) command: (Place, String),
    pub(super) interval: Duration,
    pub(super) timeout: Option<Duration>,
    pub(super) weight: Option<i16>,
    pub(super) rise: u32,
    pub(super) fall: u32,
}

/// What a script looks after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// haproxy on its node.
    Balancer,
    /// The API server of its node.
    Backend,
    /// Anything else.
    Other,
}

pub(super) fn read(statement: &Statement, notes: &mut Notes) -> Script {
    let place = &statement.place;
    let mut script = Script {
        place: place.clone(),
        name: statement.word(1).to_owned(),
        command: (place.clone(), String::new()),
        interval: Duration::from_secs(1),
        timeout: None,
        weight: None,
        rise: 1,
        fall: 1,
    };
    for line in statement.within() {
        let (place, value) = (&line.place, line.word(1));
        match line.word(0) {
            "script" => {
                // A block or several words are a command too.
                let block = line.within().iter().map(Statement::text);
                let words: Vec<_> = line.words.iter().skip(1).cloned().chain(block).collect();
                script.command = (place.clone(), words.join(" "));
            }
            "interval" => match seconds(value) {
                Some(time) if !time.is_zero() => script.interval = time,
                _ => notes.fault(place, format!("interval \"{value}\" is not a number of seconds")),
            },
            "timeout" => match seconds(value) {
                Some(time) => script.timeout = Some(time),
                None => notes.fault(place, format!("timeout \"{value}\" is not a number of seconds")),
            },
            "weight" => script.weight = weight(&line.words, 1, place, notes),
            "rise" | "fall" => match value.parse() {
                Ok(count @ 1..) if line.word(0) == "rise" => script.rise = count,
                Ok(count @ 1..) => script.fall = count,
                _ => notes.fault(place, format!("{} \"{value}\" is not a number from 1 up", line.word(0))),
            },
            "user" | "init_fail" => {}
            other => {
                let known = ["script", "interval", "timeout", "weight", "rise", "fall", "user", "init_fail"];
                let near = nearest(other, known);
                notes.fault(place, format!("\"{other}\" is no keyword of vrrp_script{near}"));
            }
        }
    }
    if script.name.is_empty() {
        notes.fault(place, "vrrp_script is without a name");
    } else if script.command.1.is_empty() {
        notes.fault(place, format!("vrrp_script {} is without its script", script.name));
    }
    script
}

/// The number at `index`, which `reverse` may follow; 0, as keepalived has it, is none.
pub(super) fn weight(words: &[String], index: usize, place: &Place, notes: &mut Notes) -> Option<i16> {
    let value = words.get(index).map_or("", String::as_str);
    if words.get(index + 1).is_some_and(|word| word == "reverse") {
        notes.lost(
            place,
            "reverse",
            "a weight of [[vrrp.track]] counts while it is bad if below zero, while it is good if above",
        );
    }
    match value.parse() {
        Ok(0) => None,
        Ok(weight @ -254..=254) => Some(weight),
        _ => {
            notes.fault(place, format!("weight \"{value}\" is not a number from -254 to 254"));
            None
        }
    }
}

/// Seconds with up to six decimals, from 0 to a day.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let whole: u64 = whole.parse().ok().filter(|whole| *whole <= 86_400)?;
    let micros: u64 = format!("{part:0<6}").parse().ok()?;
    Some(Duration::from_secs(whole) + Duration::from_micros(micros))
}

impl Script {
    /// What it looks after; `text` is what is in the file it runs, where that is known.
    pub(super) fn subject(&self, text: Option<&str>) -> Subject {
        let has = |words: &[&str]| {
            let within = |text: &str| words.iter().any(|word| text.to_lowercase().contains(word));
            within(&self.name) || within(&self.command.1) || text.is_some_and(within)
        };
        if has(&["haproxy"]) {
            Subject::Balancer
        } else if has(&["apiserver", "kube-api", "kube_api", ":6443", "healthz", "readyz", "livez"]) {
            Subject::Backend
        } else {
            Subject::Other
        }
    }

    /// What is wrong with how it looks.
    pub(super) fn judge(&self, text: Option<&str>, notes: &mut Notes) {
        let (place, command) = &self.command;
        let source = || [command.as_str()].into_iter().chain(text.into_iter().flat_map(str::lines));
        let any = |found: fn(&str) -> bool| source().map(str::trim).filter(|line| !line.starts_with('#')).any(found);
        if any(accepts_any_answer) {
            notes.mistake(
                place,
                format!(
                    "{}: curl without --fail takes any answer for a good one, a status of 500 among them",
                    self.name
                ),
            );
        }
        if any(only_looks_for_a_process) {
            notes.mistake(
                place,
                format!("{}: a process that is there may hang all the same, and the VIP stays with it", self.name),
            );
        }
        let notice = self.interval * self.fall;
        if notice >= Duration::from_secs(10) {
            let what = format!(
                "{}: {} s pass before a failure counts ({} times {} s)",
                self.name,
                notice.as_secs(),
                self.fall,
                self.interval.as_secs_f64()
            );
            notes.mistake(&self.place, what);
        }
    }
}

/// A curl that exits with 0 whatever the status is.
fn accepts_any_answer(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| *word != "curl" && !word.ends_with("/curl"));
    if words.next().is_none() {
        return false;
    }
    let looks = |word: &str| {
        let short = word.starts_with('-') && !word.starts_with("--") && word.contains('f');
        short || matches!(word, "--fail" | "--fail-with-body" | "-w" | "--write-out") || word.contains("grep")
    };
    !words.any(looks)
}

fn only_looks_for_a_process(line: &str) -> bool {
    ["killall -0", "kill -0", "pidof ", "pgrep ", "ps -C ", "ps aux", "ps -ef"].iter().any(|way| line.contains(way))
}
