//! Packets shown to who asks for it: the datapath is exchanged for one that shows them, and back when nobody asks any more.

use super::*;
use crate::admin::{CaptureOrder, Capturing as Granted};

/// For whom packets are shown, and until when.
pub(super) struct Capturing {
    caller: Caller,
    until: Instant,
    bytes: u32,
}

impl Capturing {
    /// Bytes of each packet that are shown.
    pub(super) fn bytes(of: Option<&Self>) -> u32 {
        of.map_or(0, |capturing| capturing.bytes)
    }
}

impl Agent {
    /// Has packets shown for a while, or no more.
    pub(super) fn capture(&mut self, order: CaptureOrder) {
        let CaptureOrder { hold, bytes, caller, reply } = order;
        let outcome = self.try_capture(hold, bytes, caller, clock::now());
        // Whoever asked may be gone; it ends by itself then.
        let _ = reply.send(outcome);
    }

    fn try_capture(&mut self, hold: Duration, bytes: u32, caller: Caller, now: Instant) -> Result<Granted, String> {
        let attachment = self.datapath.as_ref().map(Datapath::attachment);
        let interface = attachment.ok_or("the datapath is not attached")?.device.name.clone();
        match &mut self.capturing {
            Some(other) if other.caller != caller => {
                return Err(format!("packets are shown to {} already", other.caller));
            }
            Some(_) if hold.is_zero() => self.end_capture()?,
            Some(own) if own.bytes == bytes => own.until = now + hold,
            Some(_) | None if hold.is_zero() => {}
            Some(_) | None => {
                let who = caller.to_string();
                let before = self.capturing.replace(Capturing { caller, until: now + hold, bytes });
                if let Err(error) = self.exchange_datapath() {
                    self.capturing = before;
                    return Err(format!("the datapath cannot be loaded for it: {error}"));
                }
                self.reporter.report("capture".to_owned(), format!("packets are shown to {who}"));
            }
        }
        let shows = self.datapath.as_ref().filter(|_| self.capturing.is_some());
        let program = shows.map_or(0, |datapath| datapath.attachment().program_id);
        Ok(Granted { node: self.config.node.name.clone(), interface, program })
    }

    /// Ends what nobody has asked for again.
    pub(super) fn end_capture_that_is_over(&mut self, now: Instant) {
        if self.capturing.as_ref().is_some_and(|capturing| capturing.until <= now)
            && let Err(error) = self.end_capture()
        {
            warn!("{error}");
        }
    }

    fn end_capture(&mut self) -> Result<(), String> {
        let Some(capturing) = self.capturing.take() else {
            return Ok(());
        };
        if let Err(error) = self.exchange_datapath() {
            let text = format!("packets are still shown, trying on: the datapath cannot be loaded: {error}");
            self.capturing = Some(capturing);
            return Err(text);
        }
        self.reporter.report("capture".to_owned(), "packets are not shown any more".to_owned());
        Ok(())
    }

    /// Loads the datapath anew and puts it in the place of the one that serves, which packets do not notice. One that is
    /// detached is loaded when it is attached again.
    fn exchange_datapath(&mut self) -> Result<(), AgentError> {
        let Some(device) = self.datapath.as_ref().map(|datapath| datapath.attachment().device.clone()) else {
            return Ok(());
        };
        let (datapath, kernel) = self.load(device)?;
        self.serve_by(datapath, kernel);
        Ok(())
    }
}
