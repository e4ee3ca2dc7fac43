//! Carries records of flows from node to node as the agents do, without a network between: by the tables that agents have
//! pinned on this machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use lb_proto::sync::{Change, Record};
use xvip::bpf::{FlowChanges, FlowTable, SharingSwitch};
use xvip::drivers::sync::{Adopted, Changes, Flows as _};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(5);
/// Changes taken at once.
const MOST: usize = 1024;

/// A thread that tells every node what happens to the flows of the others; it stops when the value is dropped.
#[derive(Debug)]
pub struct Carrier {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Told>>>,
}

/// What was carried.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told {
    /// Flows that opened.
    pub opened: u64,
    /// Flows that ended.
    pub closed: u64,
    /// What became of records.
    pub adopted: Adopted,
}

struct Node {
    changes: FlowChanges,
    flows: FlowTable,
}

impl Carrier {
    /// Switches sharing on for these nodes, whose agents run, and begins with what they have.
    ///
    /// # Errors
    /// When their tables are not there.
    pub fn start(nodes: &[&str]) -> Result<Self> {
        let open = |node: &&str| -> Result<Node> {
            SharingSwitch::pinned(node)?.set(true)?;
            Ok(Node { changes: FlowChanges::pinned(node)?, flows: FlowTable::pinned(node)? })
        };
        let mut nodes = nodes.iter().map(open).collect::<Result<Vec<_>>>().context("sharing the flows of nodes")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("carrier".to_owned()).spawn(move || {
            let mut told = Told::default();
            for from in 0..nodes.len() {
                let mut all = Vec::new();
                nodes[from].flows.all(&mut |record| all.push(record));
                give(&mut nodes, from, &mut told, &all);
            }
            while !stopped.load(Ordering::Relaxed) {
                for from in 0..nodes.len() {
                    while let Some(changes) = nodes[from].changes.next(MOST)? {
                        match changes {
                            Changes::Batch(batch) => carry(&mut nodes, from, &mut told, &batch),
                            Changes::Lost => return Err(anyhow!("changes were lost")),
                        }
                    }
                }
                sleep(EVERY);
            }
            Ok(told)
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stops; what was carried.
    ///
    /// # Errors
    /// What went wrong on the way.
    pub fn end(mut self) -> Result<Told> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it has ended")?;
        thread.join().map_err(|_| anyhow!("it has panicked"))?
    }
}

fn carry(nodes: &mut [Node], from: usize, told: &mut Told, batch: &[Change]) {
    for change in batch {
        match change {
            Change::Opened(record) => {
                told.opened += 1;
                give(nodes, from, told, &[*record]);
            }
            Change::Closed(key) => {
                told.closed += 1;
                others(nodes, from).for_each(|node| node.flows.forget(&[*key]));
            }
        }
    }
}

fn give(nodes: &mut [Node], from: usize, told: &mut Told, records: &[Record]) {
    for node in others(nodes, from) {
        let adopted = node.flows.adopt(records);
        told.adopted.taken += adopted.taken;
        told.adopted.known += adopted.known;
        told.adopted.refused += adopted.refused;
        for (sum, more) in told.adopted.skipped.iter_mut().zip(adopted.skipped) {
            *sum += more;
        }
    }
}

fn others(nodes: &mut [Node], from: usize) -> impl Iterator<Item = &mut Node> {
    nodes.iter_mut().enumerate().filter(move |(at, _)| *at != from).map(|(_, node)| node)
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
