//! What a virtual router heeds besides adverts: an interface, a file, a command. Looks, and says which are good; the router
//! draws the consequences.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lb_proto::units::Priority;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config::{Track, TrackCommand, Tracked};
use crate::netlink::Interfaces;

/// How often a file is looked for.
const LOOK: Duration = Duration::from_millis(500);

/// What is looked at for one virtual router; dropping it ends the looking.
pub(super) struct Tracking {
    tracks: Vec<Track>,
    /// For each, whether it is good; not before it was looked at. Interfaces are not among what is looked at here.
    good: watch::Receiver<Vec<bool>>,
    tasks: Vec<JoinHandle<()>>,
}

/// What follows from what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) priority: u8,
    /// What is bad and makes taking part senseless, in words.
    pub(super) fault: Option<String>,
}

impl Tracking {
    /// Looks on `runtime`: commands must not inherit the haste of the thread of virtual routers.
    pub(super) fn start(tracks: &[Track], runtime: &Handle) -> Self {
        let (seen, good) = watch::channel(vec![false; tracks.len()]);
        let mut tasks = Vec::new();
        for (at, track) in tracks.iter().enumerate() {
            let seen = seen.clone();
            let put = move |good: bool| {
                seen.send_if_modified(|all| match all.get_mut(at) {
                    Some(old) => std::mem::replace(old, good) != good,
                    None => false,
                });
            };
            match &track.what {
                Tracked::Interface(_) => {}
                Tracked::File(path) => tasks.push(runtime.spawn(look_for(path.clone(), put))),
                Tracked::Command(command) => tasks.push(runtime.spawn(run_again_and_again(command.clone(), put))),
            }
        }
        Self { tracks: tracks.to_vec(), good, tasks }
    }

    pub(super) fn is_of(&self, tracks: &[Track]) -> bool {
        self.tracks == tracks
    }

    /// Waits for news.
    pub(super) async fn changed(&mut self) {
        if self.good.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// What follows for a virtual router that is configured with this priority.
    pub(super) fn verdict(&mut self, priority: u8, interfaces: &Interfaces) -> Verdict {
        let good = self.good.borrow_and_update();
        judge(&self.tracks, priority, |at, track| match &track.what {
            Tracked::Interface(name) => interfaces.link(name).is_some_and(|link| link.up),
            _ => good.get(at).copied().unwrap_or_default(),
        })
    }
}

impl Drop for Tracking {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn judge(tracks: &[Track], priority: u8, good: impl Fn(usize, &Track) -> bool) -> Verdict {
    let (mut sum, mut fault) = (i32::from(priority), None);
    for (at, track) in tracks.iter().enumerate() {
        match (track.weight, good(at, track)) {
            (None, false) => fault = fault.or_else(|| Some(format!("{} is bad", track.what.words()))),
            (Some(weight), good) if good == (weight > 0) => sum += i32::from(weight),
            _ => {}
        }
    }
    let most = Priority::MAX.get();
    // Who owns the addresses does so whatever happens.
    let priority = match priority > most {
        true => priority,
        false => u8::try_from(sum.clamp(1, most.into())).unwrap_or(most),
    };
    Verdict { priority, fault }
}

async fn look_for(path: impl AsRef<Path>, put: impl Fn(bool)) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        put(tokio::fs::try_exists(path.as_ref()).await.unwrap_or_default());
    }
}

async fn run_again_and_again(command: TrackCommand, put: impl Fn(bool)) {
    let mut tick = interval(command.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What it was last, and how often in a row it was otherwise. The first end counts at once.
    let (mut state, mut against) = (None, 0);
    loop {
        tick.tick().await;
        let good = run(&command.words, command.timeout, &[]).await;
        let needed = if good { command.rise } else { command.fall };
        against = if state == Some(good) { 0 } else { against + 1 };
        if state.is_none() || against >= needed {
            (state, against) = (Some(good), 0);
            put(good);
        }
    }
}

/// Runs a program with these arguments, by no shell; whether it ended well in time. Otherwise it is killed, with what it has
/// started.
pub(super) async fn run(words: &[String], limit: Duration, environment: &[(&str, String)]) -> bool {
    let Some((program, arguments)) = words.split_first() else { return false };
    let mut command = Command::new(program);
    command.args(arguments).envs(environment.iter().map(|(name, value)| (*name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // With all that it starts, so that nothing of it outlives its time.
    command.process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            tracing::debug!(program, "cannot be started: {error}");
            return false;
        }
    };
    let mut leash = Leash(child.id().and_then(|id| i32::try_from(id).ok()));
    match timeout(limit, child.wait()).await {
        Ok(ended) => {
            leash.0 = None;
            ended.is_ok_and(|status| status.success())
        }
        Err(_) => {
            drop(leash);
            // Collects what is left of it.
            let _ = child.kill().await;
            false
        }
    }
}

/// A process group that does not outlive this.
struct Leash(Option<i32>);

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended just now.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(weight: Option<i16>) -> Track {
        Track { what: Tracked::File("/f".into()), weight }
    }

    #[test]
    fn weights_add_up_and_faults_name_what_is_bad() {
        let tracks = [file(Some(-50)), file(Some(20)), file(None)];
        let judged = |good: [bool; 3], priority| {
            let verdict = judge(&tracks, priority, |at, _| good[at]);
            (verdict.priority, verdict.fault.is_some())
        };
        assert_eq!(judged([true, true, true], 100), (120, false));
        assert_eq!(judged([false, true, true], 100), (70, false));
        assert_eq!(judged([false, false, false], 100), (50, true));
        assert_eq!(judged([false, false, true], 30), (1, false), "never 0, which releases");
        assert_eq!(judged([true, true, true], 250), (254, false), "never 255, which owns");
        assert_eq!(judged([false, false, true], 255), (255, false));
        assert_eq!(judge(&tracks, 100, |_, _| false).fault.as_deref(), Some("file /f is bad"));
    }

    #[tokio::test]
    async fn files_and_commands_are_watched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("good");
        let command = TrackCommand {
            words: ["/usr/bin/test", "-e", path.to_str().unwrap()].map(str::to_owned).to_vec(),
            interval: Duration::from_millis(20),
            timeout: Duration::from_secs(20),
            rise: 2,
            fall: 2,
        };
        let tracks = [Tracked::File(path.clone()), Tracked::Command(command)].map(|what| Track { what, weight: None });
        let mut tracking = Tracking::start(&tracks, &Handle::current());
        for there in [true, false, true] {
            if there {
                std::fs::write(&path, "").unwrap();
            } else {
                std::fs::remove_file(&path).unwrap();
            }
            let all = |all: &Vec<bool>| all.iter().all(|good| *good == there);
            timeout(Duration::from_secs(20), tracking.good.wait_for(all)).await.expect("in time").unwrap();
        }
    }

    #[tokio::test]
    async fn a_command_is_no_shell_and_has_its_time() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let long = Duration::from_secs(20);
        assert!(run(&words(&["/usr/bin/test", "$HOME; exit 1", "=", "$HOME; exit 1"]), long, &[]).await);
        assert!(!run(&words(&["/bin/false"]), long, &[]).await);
        assert!(!run(&words(&["/not/there"]), long, &[]).await);
        assert!(!run(&words(&["/bin/sleep", "60"]), Duration::from_millis(50), &[]).await);
        let script = ["/bin/sh", "-c", "test \"$XVIP_STATE\" = active"];
        assert!(run(&words(&script), long, &[("XVIP_STATE", "active".to_owned())]).await);
    }
}
