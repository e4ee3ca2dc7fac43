//! The `capture` command: packets as they enter the datapath and as they leave it, which nothing else of the host shows
//! side by side. With XDP tcpdump sees neither.
//!
//! - `pair`: what is shown of a packet before and after, put together.
//! - `heading`: a frame in words.
//! - `file`: pcapng.

mod file;
mod heading;
mod pair;

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::admin::{AdminError, Capturing, request_capture};
use crate::bpf::{CapturedPackets, Show, TableError};
use crate::cli::CaptureArgs;
use crate::clock;
use crate::status::words::instant;
use file::CaptureFile;
use pair::{Pairs, Seen, Shown};

/// For so long the agent goes on to show packets when this command is gone.
const HOLD: Duration = Duration::from_secs(10);
/// How often it is asked to.
const ASK: Duration = Duration::from_secs(3);
/// How often what was shown is taken. Meanwhile the buffer of a CPU has room for some 3,000 packets of 128 bytes, which are there
/// twice and with 48 bytes about them each.
const TAKE: Duration = Duration::from_millis(10);

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
}

impl CaptureError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Agent(error) => error.exit_code(),
            Self::Buffers(_) | Self::File { .. } | Self::Signals(_) => 1,
        }
    }
}

/// Runs `xvip capture`; what to exit with.
pub async fn run(args: &CaptureArgs) -> u8 {
    let mut counts = Counts::default();
    // By what the agent knows this command: processes of other PID namespaces look all the same to it.
    let id = RandomState::new().hash_one(std::process::id());
    let outcome = capture(args, id, &mut counts).await;
    // Where the agent is gone, nothing is shown any more either.
    let _ = request_capture(&args.agent.socket, id, Duration::ZERO, args.bytes).await;
    eprintln!("xvip: {counts}");
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("xvip: {error}");
            error.exit_code()
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

/// What wakes the command.
struct Wakes {
    take: Interval,
    ask: Interval,
    interrupt: Signal,
    terminate: Signal,
}

impl Wakes {
    fn new() -> io::Result<Self> {
        let mut take = interval(TAKE);
        take.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { take, ask: interval(ASK), interrupt, terminate })
    }
}

async fn capture(args: &CaptureArgs, id: u64, counts: &mut Counts) -> Result<(), CaptureError> {
    let mut wakes = Wakes::new().map_err(CaptureError::Signals)?;
    let ask = || request_capture(&args.agent.socket, id, HOLD, args.bytes);
    let mut shown_by = ask().await?;
    let mut packets = CapturedPackets::pinned(&shown_by.node)?;
    let mut output = Output::open(args, &shown_by)?;
    let mut pairs = Pairs::default();
    let mut patient_until = clock::now() + HOLD;
    let end = args.seconds.map(|seconds| clock::now() + Duration::from_secs(seconds));
    let is_over = |now: Instant| end.is_some_and(|end| end <= now);
    let is_full = |counts: &Counts| args.count.is_some_and(|most| counts.packets >= most);
    loop {
        tokio::select! {
            _ = wakes.interrupt.recv() => break,
            _ = wakes.terminate.recv() => break,
            _ = wakes.ask.tick() => {
                let now = match ask().await {
                    Ok(now) => now,
                    // It may be started anew just now, while the datapath goes on.
                    Err(AdminError::NoAgent { .. }) if clock::now() < patient_until => continue,
                    Err(error) => return Err(error.into()),
                };
                patient_until = clock::now() + HOLD;
                if now.program != shown_by.program {
                    // Another agent, or the datapath was attached anew.
                    packets = CapturedPackets::pinned(&now.node)?;
                    (pairs, shown_by) = (Pairs::default(), now);
                }
                continue;
            }
            _ = wakes.take.tick() => {}
        }
        for seen in take(&mut packets, &mut pairs, &mut counts.lost) {
            if !is_wanted(&seen, args) {
                counts.others += 1;
                continue;
            }
            if !output.put(&seen)? {
                return Ok(());
            }
            counts.packets += 1;
            if is_full(counts) {
                break;
            }
        }
        if !output.flush()? || is_full(counts) || is_over(clock::now()) {
            break;
        }
    }
    Ok(())
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

/// Where packets go: a file, or lines.
enum Output {
    File { path: String, file: CaptureFile<Box<dyn Write>> },
    Lines { out: BufWriter<io::Stdout>, epoch: u64 },
}

impl Output {
    fn open(args: &CaptureArgs, shown_by: &Capturing) -> Result<Self, CaptureError> {
        let epoch = clock::monotonic_epoch();
        let Some(path) = &args.write else {
            return Ok(Self::Lines { out: BufWriter::new(io::stdout()), epoch });
        };
        let name = path.display().to_string();
        let failed = |source| CaptureError::File { path: name.clone(), source };
        let out: Box<dyn Write> = match path.as_path() == Path::new("-") {
            true => Box::new(io::stdout()),
            false => Box::new(File::create(path).map_err(failed)?),
        };
        let out: Box<dyn Write> = Box::new(BufWriter::new(out));
        let file = CaptureFile::begin(out, &shown_by.interface, args.bytes, epoch).map_err(failed)?;
        Ok(Self::File { path: name, file })
    }

    /// Whether anybody still wants it.
    fn put(&mut self, seen: &Seen) -> Result<bool, CaptureError> {
        let written = match self {
            Self::File { file, .. } => file.write(seen),
            Self::Lines { out, epoch } => {
                let at = seen.at().wrapping_add(*epoch);
                let at = Duration::from_nanos(at).as_secs_f64();
                writeln!(out, "{}  {}", instant(at), seen.line())
            }
        };
        self.outcome(written)
    }

    fn flush(&mut self) -> Result<bool, CaptureError> {
        let flushed = match self {
            Self::File { file, .. } => file.flush(),
            Self::Lines { out, .. } => out.flush(),
        };
        self.outcome(flushed)
    }

    fn outcome(&self, outcome: io::Result<()>) -> Result<bool, CaptureError> {
        match (outcome, self) {
            (Ok(()), _) => Ok(true),
            // Whoever closed the output has seen enough.
            (Err(error), _) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            (Err(source), Self::File { path, .. }) => Err(CaptureError::File { path: path.clone(), source }),
            (Err(source), Self::Lines { .. }) => Err(CaptureError::File { path: "standard output".to_owned(), source }),
        }
    }
}
