//! Packets shown to who asks for it: the datapath is exchanged for one that shows them, and back when nobody asks any more.

use tokio::sync::oneshot;

use super::*;
use crate::admin::{CaptureOrder, Capturing as Granted};
use crate::bpf::Loaded;

/// For whom packets are to be shown, and who waits until that is so.
pub(super) struct Capturing {
    wanted: Wanted,
    waiting: Vec<oneshot::Sender<Result<Granted, String>>>,
    /// For whom they are shown, as was told last.
    told: Option<u64>,
    fault: Fault,
}

impl Capturing {
    pub(super) fn none() -> Self {
        let fault = Fault::none("what shows packets is");
        Self { wanted: Wanted::default(), waiting: Vec::new(), told: None, fault }
    }

    /// Bytes to show of each packet.
    pub(super) fn bytes(&self) -> u32 {
        self.wanted.bytes()
    }

    fn answer(&mut self, outcome: &Result<Granted, String>) {
        for reply in self.waiting.drain(..) {
            // Whoever asked may be gone; it ends by itself then.
            let _ = reply.send(outcome.clone());
        }
    }
}

/// For whom packets are to be shown: for one at a time.
#[derive(Debug, Default)]
struct Wanted(Option<Viewer>);

#[derive(Debug)]
struct Viewer {
    /// Its own number: processes of other PID namespaces look all the same.
    id: u64,
    caller: Caller,
    until: Instant,
    bytes: u32,
}

impl Wanted {
    fn bytes(&self) -> u32 {
        self.0.as_ref().map_or(0, |viewer| viewer.bytes)
    }

    /// Somebody wants to see packets for a while, or no more.
    fn order(&mut self, id: u64, caller: Caller, hold: Duration, bytes: u32, now: Instant) -> Result<(), String> {
        if let Some(other) = self.0.as_ref().filter(|viewer| viewer.id != id && viewer.until > now) {
            let left = other.until.saturating_duration_since(now).as_secs() + 1;
            return Err(format!(
                "packets are shown to {} already: end that one, or wait {left} s if it is gone",
                other.caller
            ));
        }
        self.0 = (!hold.is_zero()).then(|| Viewer { id, caller, until: now + hold, bytes });
        Ok(())
    }

    /// Nobody does who has not asked again.
    fn settle(&mut self, now: Instant) {
        self.0.take_if(|viewer| viewer.until <= now);
    }
}

impl Agent {
    /// Has packets shown for a while, or no more. The answer comes when that is so.
    pub(super) fn capture(&mut self, order: CaptureOrder) {
        let CaptureOrder { id, hold, bytes, caller, reply } = order;
        match self.capturing.wanted.order(id, caller, hold, bytes, clock::now()) {
            Ok(()) => {
                self.capturing.waiting.retain(|reply| !reply.is_closed());
                self.capturing.waiting.push(reply);
                self.converge_capture();
            }
            Err(why) => {
                let _ = reply.send(Err(why));
            }
        }
    }

    /// Ends what nobody has asked for again, and tries again what has failed.
    pub(super) fn watch_over_capture(&mut self, now: Instant) {
        self.capturing.wanted.settle(now);
        self.converge_capture();
    }

    /// Has the datapath show what is wanted, and tells who waits for it once it does. One that is detached is loaded so when it
    /// is attached again.
    pub(super) fn converge_capture(&mut self) {
        let Some(datapath) = &self.datapath else {
            self.capturing.wanted.0 = None;
            self.capturing.answer(&Err("the datapath is not attached".to_owned()));
            return;
        };
        let attachment = datapath.attachment();
        if datapath.capture() == self.capturing.bytes() {
            let program = if datapath.capture() > 0 { attachment.program_id } else { 0 };
            let interface = attachment.device.name.clone();
            self.capturing.answer(&Ok(Granted { node: self.config.node.name.clone(), interface, program }));
            self.capturing.fault.note(Ok::<_, String>(()));
            self.tell_of_capture();
        } else if !self.loading.is_under_way() {
            let spec = self.spec(attachment.device.clone());
            if let Err(error) = self.loading.start(spec, true) {
                self.capture_failed(&error.to_string());
            }
        }
    }

    /// Puts a datapath that was loaded in the place of the one that serves, which packets do not notice.
    pub(super) fn exchange(&mut self, loaded: Result<Loaded, LoadError>) {
        let outcome = match (loaded, &self.datapath) {
            (Err(error), _) => Err(error.to_string()),
            // It has been lost meanwhile, or something else is wanted by now.
            (Ok(_), None) => Ok(()),
            (Ok(loaded), Some(_)) if loaded.capture() != self.capturing.bytes() => Ok(()),
            (Ok(loaded), Some(serving)) => {
                let attached = loaded.attach(Some(serving.attachment())).map_err(AgentError::from);
                attached.and_then(|datapath| self.serve_by(datapath)).map_err(|error| error.to_string())
            }
        };
        match outcome {
            Ok(()) => self.converge_capture(),
            Err(why) => self.capture_failed(&why),
        }
    }

    /// Nothing is shown then, or it goes on until that can be ended.
    fn capture_failed(&mut self, why: &str) {
        let text = if self.capturing.bytes() > 0 {
            format!("the datapath cannot be loaded for it: {why}")
        } else {
            format!("packets are still shown, trying on: the datapath cannot be loaded: {why}")
        };
        self.capturing.wanted.0 = None;
        self.capturing.fault.note(Err(why));
        self.capturing.answer(&Err(text));
    }

    fn tell_of_capture(&mut self) {
        let viewer = self.capturing.wanted.0.as_ref();
        let id = viewer.map(|viewer| viewer.id);
        if id == self.capturing.told {
            return;
        }
        let text = viewer.map_or_else(
            || "packets are not shown any more".to_owned(),
            |viewer| format!("packets are shown to {}", viewer.caller),
        );
        self.reporter.report("capture".to_owned(), text);
        self.capturing.told = id;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(10);

    /// As every command looks that was run on the host of a container.
    fn caller() -> Caller {
        Caller::Local { uid: 0, pid: Some(0) }
    }

    #[test]
    fn one_sees_packets_at_a_time_whoever_it_seems_to_be() {
        let start = clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut wanted = Wanted::default();
        assert_eq!(wanted.bytes(), 0);
        let mut order = |id, hold, bytes, now| {
            let outcome = wanted.order(id, caller(), hold, bytes, now);
            (outcome.is_ok(), wanted.bytes())
        };
        assert_eq!(order(1, HOLD, 128, at(0)), (true, 128));
        assert_eq!(order(2, HOLD, 64, at(3)), (false, 128), "another one with other bytes");
        assert_eq!(order(2, Duration::ZERO, 64, at(3)), (false, 128), "nor does its end end the first one's");
        assert_eq!(order(1, HOLD, 128, at(6)), (true, 128));
        assert_eq!(order(2, HOLD, 64, at(15)), (false, 128), "the first one has asked again");
        assert_eq!(order(2, HOLD, 64, at(16)), (true, 64), "it was not heard of any more");
        assert_eq!(order(1, Duration::ZERO, 128, at(17)), (false, 64));
        assert_eq!(order(2, Duration::ZERO, 64, at(18)), (true, 0));
        assert_eq!(order(2, Duration::ZERO, 64, at(19)), (true, 0), "ending twice is ending");
    }

    #[test]
    fn who_is_refused_hears_what_to_do() {
        let start = clock::now();
        let mut wanted = Wanted::default();
        wanted.order(1, caller(), HOLD, 128, start).unwrap();
        let why = wanted.order(2, caller(), HOLD, 128, start + Duration::from_millis(3500)).unwrap_err();
        assert_eq!(why, "packets are shown to uid 0 (process 0) already: end that one, or wait 7 s if it is gone");
    }

    #[test]
    fn nothing_is_shown_to_who_does_not_ask_again() {
        let start = clock::now();
        let mut wanted = Wanted::default();
        wanted.order(1, caller(), HOLD, 128, start).unwrap();
        wanted.settle(start + HOLD - Duration::from_millis(1));
        assert_eq!(wanted.bytes(), 128);
        wanted.settle(start + HOLD);
        assert_eq!(wanted.bytes(), 0);
    }
}
