//! Watch streams that are open all the time, as informers hold them.

use std::time::Duration;

use anyhow::{Result, bail};
use xvip_tests::client::{Client, Options};
use xvip_tests::stats::WatchChange;
use xvip_tests::stop;

use crate::world::Ground;

/// How many.
pub(crate) const STREAMS: usize = 200;
/// From one event of a stream to the next.
const EVENTS: Duration = Duration::from_millis(500);
/// How long an event may be late. A stream that has had none for 5 s is given up.
const LATE: Duration = Duration::from_secs(7);

/// The streams; one that breaks is opened again.
pub(crate) struct Streams {
    client: Client,
}

impl Streams {
    /// Opens them and waits until every one has had an event.
    pub(crate) fn open(ground: &Ground) -> Result<Streams> {
        let options = Options::https(ground.vip(), ground.ca_file());
        let seldom = Duration::from_secs(100_000);
        let options = Options { watches: STREAMS, watch_interval: EVENTS, every: seldom, ..options };
        let streams = Streams { client: Client::start(ground.client(), options)? };
        if streams.deliver()? < STREAMS {
            bail!("the streams did not open");
        }
        Ok(streams)
    }

    /// Breaks and openings so far, for [`Streams::broken_since`].
    pub(crate) fn mark(&self) -> usize {
        self.client.watch_events(0).len()
    }

    /// How often one broke since then.
    pub(crate) fn broken_since(&self, mark: usize) -> u32 {
        let broke = |change: &WatchChange| matches!(change, WatchChange::Broke { .. });
        self.client.watch_events(mark).iter().map(|event| u32::from(broke(&event.change))).sum()
    }

    /// Waits for the next event of each; how many had one before it was too late.
    pub(crate) fn deliver(&self) -> Result<usize> {
        let from = self.client.now();
        loop {
            let heard = self.client.heard().into_iter().filter(|at| *at > from).count();
            if heard == STREAMS || self.client.now() > from + LATE {
                return Ok(heard);
            }
            if !stop::sleep(Duration::from_millis(20)) {
                bail!("stopped");
            }
        }
    }
}
