//! The `capture` command: packets as they enter the datapath and as they leave it, which nothing else of the host shows
//! side by side. With XDP tcpdump sees neither.
//!
//! - `lease`: the agent asked to go on.
//! - `pair`: what is shown of a packet before and after, put together.
//! - `heading`: a frame in words.
//! - `file`: pcapng.
//! - `output`: what is written, on a thread of its own.

mod file;
mod heading;
mod lease;
mod output;
mod pair;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::join;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::admin::AdminError;
use crate::bpf::{CapturedPackets, Show, TableError};
use crate::cli::CaptureArgs;
use crate::clock;
use lease::Lease;
use output::Output;
use pair::{Pairs, Seen, Shown};

/// How often what was shown is taken. Meanwhile the buffer of a CPU has room for some 3,000 packets of 128 bytes, which are there
/// twice and with 48 bytes about them each.
const TAKE: Duration = Duration::from_millis(10);
/// How long a command that was told to end waits for the agent to show nothing more, and for whoever reads what is left.
const LAST: Duration = Duration::from_secs(2);

/// Why a capture ends before its time.
#[derive(Debug, thiserror::Error)]
enum CaptureError {
    #[error(transparent)]
    Agent(#[from] AdminError),
    #[error("what the datapath shows cannot be read, which takes root (CAP_BPF and CAP_PERFMON): {0}")]
    Buffers(#[from] TableError),
    #[error("{path}: {source}")]
    File { path: String, source: io::Error },
    #[error("signals cannot be waited for: {0}")]
    Signals(io::Error),
    #[error("cannot start the thread that writes: {0}")]
    Thread(io::Error),
    #[error("the system has no random numbers")]
    Random,
}

impl CaptureError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Agent(error) => error.exit_code(),
            Self::Buffers(_) | Self::File { .. } | Self::Signals(_) | Self::Thread(_) | Self::Random => 1,
        }
    }
}

/// Runs `xvip capture`; what to exit with.
pub async fn run(args: &CaptureArgs) -> u8 {
    match try_run(args).await {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("xvip: {error}");
            error.exit_code()
        }
    }
}

async fn try_run(args: &CaptureArgs) -> Result<(), CaptureError> {
    let mut signals = Signals::new().map_err(CaptureError::Signals)?;
    let mut capture = Capture::new(args)?;
    // Wherever it is: at the agent, or at an output that nobody reads.
    let captured = tokio::select! {
        biased;
        () = signals.next() => None,
        outcome = capture.go() => Some(outcome),
    };
    let patience = captured.is_none().then_some(LAST);
    let ended = tokio::select! {
        biased;
        () = signals.next() => Ok(()),
        outcome = capture.end(patience) => outcome,
    };
    eprintln!("xvip: {}", capture.counts);
    captured.unwrap_or(Ok(())).and(ended)
}

/// What tells the command to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What a capture has come to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    packets: u64,
    others: u64,
    lost: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} packets captured, {} not asked for", self.packets, self.others)?;
        if self.lost > 0 {
            write!(f, ", {} lost because they came too fast (--bytes 128 makes room)", self.lost)?;
        }
        Ok(())
    }
}

/// A capture, of which every wait can be given up.
struct Capture<'a> {
    args: &'a CaptureArgs,
    /// By what the agent knows this command: processes of other PID namespaces look all the same to it.
    id: u64,
    /// Whether it may show packets to it.
    has_asked: bool,
    counts: Counts,
    output: Output,
}

impl<'a> Capture<'a> {
    fn new(args: &'a CaptureArgs) -> Result<Self, CaptureError> {
        let mut id = [0; 8];
        SystemRandom::new().fill(&mut id).map_err(|_| CaptureError::Random)?;
        let output = Output::start(args.write.clone(), args.bytes).map_err(CaptureError::Thread)?;
        Ok(Self { args, id: u64::from_ne_bytes(id), has_asked: false, counts: Counts::default(), output })
    }

    async fn go(&mut self) -> Result<(), CaptureError> {
        // The datapath is not exchanged for an output that there cannot be.
        self.output.opened().await?;
        self.has_asked = true;
        let mut lease = Lease::begin(&self.args.agent.socket, self.id, self.args.bytes);
        let Some(granted) = lease.answer().await else { return Ok(()) };
        let mut shown_by = granted?;
        let mut packets = CapturedPackets::pinned(&shown_by.node)?;
        let mut pairs = Pairs::default();
        self.output.begin(&shown_by.interface);
        let end = self.args.seconds.map(|seconds| clock::now() + Duration::from_secs(seconds));
        let mut take = interval(TAKE);
        take.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Some(granted) = lease.answer() => {
                    let now = granted?;
                    if now.program != shown_by.program {
                        // Another agent, or the datapath was attached anew.
                        packets = CapturedPackets::pinned(&now.node)?;
                        (pairs, shown_by) = (Pairs::default(), now);
                    }
                    continue;
                }
                outcome = self.output.ended() => return outcome,
                _ = take.tick() => {}
            }
            // While nobody reads, what is more than the kernel's buffers hold is lost and counted.
            if self.output.has_room() {
                let seen = self.take(&mut packets, &mut pairs);
                self.output.write(seen);
            }
            if self.is_full() || end.is_some_and(|end| end <= clock::now()) {
                return Ok(());
            }
        }
    }

    fn is_full(&self) -> bool {
        self.args.count.is_some_and(|most| self.counts.packets >= most)
    }

    /// The packets that have become complete and are wanted, oldest first.
    fn take(&mut self, packets: &mut CapturedPackets, pairs: &mut Pairs) -> Vec<Seen> {
        let mut wanted = Vec::new();
        for seen in take(packets, pairs, &mut self.counts.lost) {
            if !is_wanted(&seen, self.args) {
                self.counts.others += 1;
                continue;
            }
            wanted.push(seen);
            self.counts.packets += 1;
            if self.is_full() {
                break;
            }
        }
        wanted
    }

    /// Has the datapath show nothing more, and everything written; with so much patience, if there is a limit to it.
    async fn end(&mut self, patience: Option<Duration>) -> Result<(), CaptureError> {
        let Self { args, id, has_asked, output, .. } = self;
        let ask = async {
            if *has_asked {
                lease::end(&args.agent.socket, *id, args.bytes).await;
            }
        };
        match patience {
            None => join!(ask, output.finish()).1,
            // Each by itself: whoever does not read keeps the agent from nothing.
            Some(patience) => join!(timeout(patience, ask), timeout(patience, output.finish())).1.unwrap_or(Ok(())),
        }
    }
}

/// The packets that have become complete, oldest first.
fn take(packets: &mut CapturedPackets, pairs: &mut Pairs, lost: &mut u64) -> Vec<Seen> {
    let mut all = Vec::new();
    packets.drain(|cpu, show| match show {
        Show::Packet(bytes) => all.extend(Shown::read(bytes).into_iter().flat_map(|shown| pairs.take(cpu, shown))),
        Show::Lost(count) => {
            *lost += count;
            all.extend(pairs.lost(cpu));
        }
    });
    all.sort_by_key(Seen::at);
    all
}

fn is_wanted(seen: &Seen, args: &CaptureArgs) -> bool {
    let is_meant = |address: IpAddr| args.address.is_none_or(|net| net.contains(address));
    (args.all || !seen.passes_by()) && (args.address.is_none() || seen.concerns(is_meant))
}
