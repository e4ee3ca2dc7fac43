//! Two drivers over loopback, with tables of their own.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lb_proto::sync::{Change, Key, Path, Record};

use super::*;

/// A table that two threads see.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<BTreeMap<Key, Record>>>);

impl Memory {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flows for Memory {
    fn all(&mut self, each: &mut dyn FnMut(Record)) {
        let all: Vec<_> = self.lock().values().copied().collect();
        all.into_iter().for_each(each);
    }

    fn adopt(&mut self, records: &[Record]) -> Adopted {
        let mut adopted = Adopted::default();
        for record in records {
            let known = self.lock().insert(record.key, *record).is_some();
            *(if known { &mut adopted.known } else { &mut adopted.taken }) += 1;
        }
        adopted
    }

    fn forget(&mut self, keys: &[Key]) {
        self.lock().retain(|key, _| !keys.contains(key));
    }
}

fn record(client: u32) -> Record {
    let at = |last, port| SocketAddr::from(([192, 0, 2, last], port));
    let [_, high, low, port] = client.to_be_bytes();
    Record {
        key: Key { client: SocketAddr::from(([10, 0, high, low], 1024 + u16::from(port))), listener: at(100, 8443) },
        backend: at(31, 6443),
        path: Path::Translated(at(100, 1024 + (client % 60_000) as u16)),
        next_hop: [2, 0, 0, 0, 0, 1],
        silent_seconds: 0,
    }
}

/// A driver at an address of 127.0.0.0/8, its table, and where its datapath speaks.
struct End {
    driver: Handle,
    table: Memory,
    changes: mpsc::Sender<Changes>,
}

impl End {
    fn start(own: u8, other: u8, port: u16, key: u8) -> Self {
        let at = |last| IpAddr::from([127, 99, 0, last]);
        let mut driver = SyncDriver::spawn();
        let settings = Settings {
            key: SharedKey::new(&[key; 64]).unwrap(),
            port,
            peers: [at(other)].into(),
            sources: vec![at(own)],
        };
        // Both are on one host: each listens at its own address.
        let socket = DatagramSocket::open_at(SocketAddr::new(at(own), port)).unwrap();
        socket.widen(RECEIVE_BUFFER).unwrap();
        let sealer = Sealer::new(&settings.key);
        driver.apply(Prepared { settings: Some(settings), sealer, opened: vec![socket] });
        let table = Memory::default();
        let (changes, told) = mpsc::channel(256);
        driver.attach(Box::new(table.clone()), told);
        Self { driver, table, changes }
    }

    fn report(&self) -> Option<Report> {
        self.driver.snapshot().peers.first().map(|(_, report)| report.clone())
    }
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..4000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} takes too long");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_drivers_come_to_the_same() {
    let (here, there) = (End::start(1, 2, 39_912, b'k'), End::start(2, 1, 39_912, b'k'));
    let opened: Vec<_> = (0..1000).map(record).collect();
    here.table.lock().extend(opened.iter().map(|record| (record.key, *record)));
    until("the table", || *there.table.lock() == *here.table.lock()).await;
    let closed = opened.iter().map(|record| Change::Closed(record.key)).take(500).collect();
    let over: Vec<_> = opened.iter().take(500).map(|record| record.key).collect();
    here.table.lock().retain(|key, _| !over.contains(key));
    here.changes.send(Changes::Batch(closed)).await.unwrap();
    let more = record(5000);
    there.table.lock().insert(more.key, more);
    there.changes.send(Changes::Batch(vec![Change::Opened(more)])).await.unwrap();
    until("the changes", || here.table.lock().len() == 501 && *there.table.lock() == *here.table.lock()).await;
    // What the datapath could not tell is found in the table.
    here.table.lock().insert(record(7000).key, record(7000));
    here.changes.send(Changes::Lost).await.unwrap();
    until("what was lost", || there.table.lock().contains_key(&record(7000).key)).await;
    until("the report", || here.report().is_some_and(|report| report.is_up && report.counts.resyncs > 0)).await;
    let counts = here.report().unwrap().counts;
    assert!(counts.refused.is_empty(), "{counts:?}");
    assert!(counts.lag.buckets.iter().sum::<u64>() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_key_is_not_believed() {
    let (here, there) = (End::start(3, 4, 39_913, b'k'), End::start(4, 3, 39_913, b'x'));
    here.table.lock().insert(record(1).key, record(1));
    until("the refusal", || {
        here.report().is_some_and(|report| report.counts.refused.get(&Refusal::Proof).is_some_and(|times| *times > 2))
    })
    .await;
    assert!(!here.report().unwrap().is_up);
    assert!(there.table.lock().is_empty());
}

/// What sharing costs; not a test of anything. `cargo test --release -p xvip sync_costs -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn sync_costs() {
    const TABLE: u32 = 100_000;
    const RATE: u32 = 1000;
    const SECONDS: u32 = 10;
    let (here, there) = (End::start(5, 6, 39_914, b'k'), End::start(6, 5, 39_914, b'k'));
    until("a session", || here.report().is_some_and(|report| report.is_up)).await;
    let (before, cpu, begun) = (here.report().unwrap().counts, cpu(), clock::now());
    for tick in 0..SECONDS * 100 {
        let first = tick * RATE / 100;
        let opened: Vec<_> = (first..first + RATE / 100).map(|client| Change::Opened(record(client))).collect();
        let closed = (first..first + RATE / 100).map(|client| Change::Closed(record(client).key));
        // Every flow lives for a moment.
        here.changes.send(Changes::Batch(opened)).await.unwrap();
        here.changes.send(Changes::Batch(closed.collect())).await.unwrap();
        tokio::time::sleep_until((begun + Duration::from_millis(u64::from(tick) * 10)).into()).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (after, spent) = (here.report().unwrap().counts, self::cpu() - cpu);
    let took = clock::now().duration_since(begun).as_secs_f64();
    let datagrams: u64 = after.lag.buckets.iter().sum::<u64>() - before.lag.buckets.iter().sum::<u64>();
    let mean = (after.lag.sum - before.lag.sum).as_secs_f64() / datagrams.max(1) as f64;
    println!(
        "{RATE} flows a second open and end: {:.0} bytes/s out in {:.0} datagrams/s, {:.0} bytes/s back; lag {:.1} ms mean, \
         buckets {:?}; {:.2} % of a processor for both ends",
        (after.bytes_out - before.bytes_out) as f64 / took,
        (after.datagrams_out - before.datagrams_out) as f64 / took,
        (after.bytes_in - before.bytes_in) as f64 / took,
        mean * 1e3,
        after.lag.buckets,
        spent / took * 100.0
    );
    here.table.lock().extend((0..TABLE).map(|client| (record(client).key, record(client))));
    let (before, cpu, begun) = (here.report().unwrap().counts, self::cpu(), clock::now());
    here.changes.send(Changes::Lost).await.unwrap();
    until("the table", || there.table.lock().len() == here.table.lock().len()).await;
    let took = clock::now().duration_since(begun).as_secs_f64();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = here.report().unwrap().counts;
    println!(
        "{TABLE} flows to a node that joins: {took:.2} s, {} bytes in {} datagrams, {:.2} s of a processor for both ends",
        after.bytes_out - before.bytes_out,
        after.datagrams_out - before.datagrams_out,
        self::cpu() - cpu
    );
}

/// Seconds of processor time that this process has had.
fn cpu() -> f64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}
