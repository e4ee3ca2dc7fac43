//! The thread that speaks with the datapath's tables: a full one takes its time, and nobody waits for it.

use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use lb_proto::sync::{Change, Fate, Key, Record, Remainder, Table};
use tokio::sync::mpsc;
use tracing::error;

use super::flows::{Adopted, Flows};

/// Jobs that wait; what a peer tells beyond is dropped, and asked for again.
const QUEUE: usize = 512;
/// Outcomes that wait.
const OUTCOMES: usize = 64;

/// What is to be done with the tables, in this order.
#[derive(Debug)]
pub(super) enum Job {
    Apply(Vec<Change>),
    Settle(IpAddr, Remainder),
    Look,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    Table(Table),
    Untold(IpAddr, Vec<Record>),
    Adopted(Adopted),
}

/// The thread; it ends with this.
#[derive(Debug)]
pub(super) struct Tables {
    jobs: SyncSender<Job>,
    pub(super) outcomes: mpsc::Receiver<Outcome>,
}

impl Tables {
    pub(super) fn start(flows: Box<dyn Flows>) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel(QUEUE);
        let (report, outcomes) = mpsc::channel(OUTCOMES);
        thread::Builder::new().name("xvip-flows".to_owned()).spawn(move || work(flows, &waiting, &report))?;
        Ok(Self { jobs, outcomes })
    }

    /// Whether there was room for it.
    pub(super) fn give(&self, job: Job) -> bool {
        match self.jobs.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => false,
            Err(TrySendError::Disconnected(_)) => {
                error!("the thread for the tables of flows has ended");
                false
            }
        }
    }
}

fn work(mut flows: Box<dyn Flows>, jobs: &Receiver<Job>, report: &mpsc::Sender<Outcome>) {
    while let Ok(job) = jobs.recv() {
        let outcome = match job {
            Job::Apply(changes) => Outcome::Adopted(apply(&mut *flows, &changes)),
            Job::Settle(peer, remainder) => Outcome::Untold(peer, settle(&mut *flows, &remainder)),
            Job::Look => {
                let mut table = Table::default();
                flows.all(&mut |record| table.push(&record));
                Outcome::Table(table)
            }
        };
        // Nobody is told when the driver is gone.
        if report.blocking_send(outcome).is_err() {
            return;
        }
    }
}

/// Runs of the same kind go together, and kinds stay in order.
fn apply(flows: &mut dyn Flows, changes: &[Change]) -> Adopted {
    let mut sum = Adopted::default();
    let (mut records, mut keys): (Vec<Record>, Vec<Key>) = (Vec::new(), Vec::new());
    for run in changes.chunk_by(|a, b| matches!(a, Change::Opened(_)) == matches!(b, Change::Opened(_))) {
        for change in run {
            match change {
                Change::Opened(record) => records.push(*record),
                Change::Closed(key) => keys.push(*key),
            }
        }
        if !records.is_empty() {
            sum += flows.adopt(&records);
            records.clear();
        }
        if !keys.is_empty() {
            flows.forget(&keys);
            keys.clear();
        }
    }
    sum
}

fn settle(flows: &mut dyn Flows, remainder: &Remainder) -> Vec<Record> {
    let (mut over, mut untold) = (Vec::new(), Vec::new());
    flows.all(&mut |record| match remainder.fate(&record.key) {
        Fate::Stays => {}
        Fate::Over => over.push(record.key),
        Fate::Untold => untold.push(record),
    });
    if !over.is_empty() {
        flows.forget(&over);
    }
    untold
}
