//! `xvip capture`: packets as they enter and leave the datapath, which no program that listens at the interface sees.
//!
//! Tracing programs beside the datapath's own hand them over for as long as the command runs; neither agent nor datapath knows of
//! it. The rights it takes are root's.

mod btf;
mod pairing;
mod pcapng;
mod tracer;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aya::maps::perf::{PerfEvent, PerfEventArrayBuffer};
use aya::maps::{Map, MapData, PerfEventArray};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};

use crate::admin::fetch_status;
use crate::bpf::program_ids;
use crate::cli::CaptureArgs;
use crate::clock;
use crate::connections::{Peer, peer};
use crate::status::Status;
use crate::status::words::instant;
use pairing::{Packet, Pairing, Seen, Way, Whose, line};
use tracer::{META, SNAP, Target, Tracer, outputs};

/// Pages of each processor's buffer.
const PAGES: usize = 256;
/// How long nothing may come before the end is looked for.
const WAIT_MS: u16 = 100;
/// The programs that packets pass.
const TRACED: [&str; 4] = ["xvip", "xvip_tc", "xvip_leave", "xvip_home"];

/// Why nothing can be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// There is no program.
    #[error("the agent on {0} has no datapath attached: look at `xvip status`")]
    NoProgram(String),
    /// No backend of that name.
    #[error("there is no backend {0:?}: look at `xvip status`")]
    NoBackend(String),
    /// The kernel refuses.
    #[error(
        "cannot {doing}: {source}; this takes root's rights and a kernel with type information (CONFIG_DEBUG_INFO_BTF)"
    )]
    Kernel {
        /// What was tried.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn kernel(doing: &'static str) -> impl Fn(io::Error) -> CaptureError {
    move |source| CaptureError::Kernel { doing, source }
}

/// Runs `xvip capture`; what to exit with.
pub async fn run(args: CaptureArgs) -> u8 {
    let status = match fetch_status(&args.agent.socket).await {
        Ok(status) => status,
        Err(error) => {
            eprintln!("xvip: {error}");
            return error.exit_code();
        }
    };
    let end = Arc::new(AtomicBool::new(false));
    let interrupted = Arc::clone(&end);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.store(true, Ordering::Relaxed);
        }
    });
    let captured = tokio::task::spawn_blocking(move || capture(&args, &status, &end));
    match captured.await {
        Ok(Ok((packets, lost))) => {
            let lost = if lost > 0 { format!(", {lost} lost because there were too many") } else { String::new() };
            eprintln!("xvip: {packets} packets{lost}");
            0
        }
        Ok(Err(error)) => {
            eprintln!("xvip: {error}");
            1
        }
        Err(_) => 1,
    }
}

/// Where packets go.
enum Sink {
    /// To a file, as pcapng.
    File(Box<dyn Write>, String),
    /// To people.
    Lines,
}

impl Sink {
    fn open(to: Option<&Path>, interface: &str) -> Result<Self, CaptureError> {
        let Some(path) = to else {
            return Ok(Self::Lines);
        };
        let name = path.display().to_string();
        let file: Box<dyn Write> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            let opened = File::create(path).map_err(|source| CaptureError::Write { path: name.clone(), source })?;
            Box::new(opened)
        };
        let mut sink = Self::File(file, name);
        sink.put(&pcapng::beginning(interface, SNAP))?;
        Ok(sink)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), CaptureError> {
        match self {
            Self::File(file, name) => {
                let written = file.write_all(bytes).and_then(|()| file.flush());
                written.map_err(|source| CaptureError::Write { path: name.clone(), source })
            }
            Self::Lines => Ok(()),
        }
    }

    /// False: nobody reads it any more.
    fn packet(&mut self, packet: &Packet) -> Result<bool, CaptureError> {
        match self {
            Self::File(..) => match self.put(&pcapng::packet(packet)) {
                Err(CaptureError::Write { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(false),
                put => put.map(|()| true),
            },
            Self::Lines => {
                #[allow(clippy::cast_precision_loss, reason = "milliseconds are shown")]
                let at = instant(packet.at as f64 / 1e9);
                Ok(writeln!(io::stdout(), "{at} {}", line(packet)).is_ok())
            }
        }
    }
}

fn capture(args: &CaptureArgs, status: &Status, end: &AtomicBool) -> Result<(u64, u64), CaptureError> {
    let whose = whose(args, status)?;
    let mut targets = Vec::new();
    for id in program_ids(&status.node).map_err(kernel("read the pins of the datapath"))? {
        let target = Target::open(id).map_err(kernel("look at the datapath's programs"))?;
        targets.extend(target.filter(|target| TRACED.contains(&target.name.as_str())));
    }
    if targets.is_empty() {
        return Err(CaptureError::NoProgram(args.agent.socket.display().to_string()));
    }
    let processors =
        aya::util::nr_cpus().map_err(|(_, source)| CaptureError::Kernel { doing: "count processors", source })?;
    let table = outputs(processors as u32).map_err(kernel("make a table of buffers"))?;
    let mut buffers = open_buffers(table.try_clone().map_err(kernel("share a table"))?)?;
    let mut sink = Sink::open(args.write.as_deref(), &status.datapath.interface)?;
    let mut tracers = Vec::new();
    for (number, target) in (0_u8..).zip(&targets) {
        // What leaves is seen first, so that nothing enters that is not seen to leave.
        for way in [Way::Out, Way::In] {
            let tracer = Tracer::attach(target, number, way, table.as_fd());
            tracers.push(tracer.map_err(kernel("run beside the datapath"))?);
        }
    }
    eprintln!("xvip: capturing on {}; interrupt to end", status.datapath.interface);

    let since_boot = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    let offset = clock::unix(clock::wall()) - since_boot.as_secs_f64();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a moment of this century")]
    let offset = (offset.max(0.0) * 1e9) as u64;
    let deadline = args.seconds.map(|seconds| clock::now() + Duration::from_secs(seconds));
    let (mut pairing, mut written, mut lost) = (Pairing::default(), 0, 0);
    loop {
        let is_over = end.load(Ordering::Relaxed) || deadline.is_some_and(|deadline| clock::now() >= deadline);
        if !is_over {
            wait(&buffers);
        }
        let mut packets = Vec::new();
        for (cpu, buffer) in &mut buffers {
            buffer.for_each(|event| match event {
                PerfEvent::Lost { count } => lost += count,
                PerfEvent::Sample { head, tail } => {
                    let Some(seen) = read([head, tail].concat()) else { return };
                    let Some(target) = targets.get(seen.program as usize) else { return };
                    let pair = pairing.take(*cpu, target.kind, seen, args.all);
                    if whose.is(&pair) {
                        packets.extend(pair);
                    }
                }
            });
        }
        packets.sort_by_key(|packet| packet.at);
        for packet in packets {
            let packet = Packet { at: packet.at.saturating_add(offset), ..packet };
            if !sink.packet(&packet)? {
                return Ok((written, lost));
            }
            written += 1;
            if args.count.is_some_and(|count| written >= count) {
                return Ok((written, lost));
            }
        }
        if is_over {
            return Ok((written, lost));
        }
    }
}

fn whose(args: &CaptureArgs, status: &Status) -> Result<Whose, CaptureError> {
    let Some(named) = &args.backend else {
        return Ok(Whose { client: args.client, backends: None });
    };
    let services = status.services.iter().filter(|service| named.service.as_ref().is_none_or(|of| *of == service.name));
    let backends = services.flat_map(|service| &service.backends).filter(|backend| backend.name == named.name);
    let peers: Vec<Peer> = backends.filter_map(|backend| peer(&backend.address).ok()).collect();
    if peers.is_empty() {
        return Err(CaptureError::NoBackend(named.name.clone()));
    }
    Ok(Whose { client: args.client, backends: Some(peers) })
}

type Buffer = PerfEventArrayBuffer<MapData>;

fn open_buffers(table: std::os::fd::OwnedFd) -> Result<Vec<(u32, Buffer)>, CaptureError> {
    let doing = "open a buffer";
    let other =
        |error: &dyn std::fmt::Display| CaptureError::Kernel { doing, source: io::Error::other(error.to_string()) };
    let data = MapData::from_fd(table).map_err(|error| other(&error))?;
    let mut array = PerfEventArray::try_from(Map::PerfEventArray(data)).map_err(|error| other(&error))?;
    let online = aya::util::online_cpus().map_err(|(_, source)| CaptureError::Kernel { doing, source })?;
    let open = |cpu| array.open(cpu, Some(PAGES)).map(|buffer| (cpu, buffer)).map_err(|error| other(&error));
    online.into_iter().map(open).collect()
}

fn wait(buffers: &[(u32, Buffer)]) {
    let mut fds: Vec<_> = buffers.iter().map(|(_, buffer)| PollFd::new(buffer.as_fd(), PollFlags::POLLIN)).collect();
    // What there is, is read afterwards.
    let _ = poll(&mut fds, PollTimeout::from(WAIT_MS));
}

/// What a tracing program has told.
fn read(mut sample: Vec<u8>) -> Option<Seen> {
    let word = |at: usize| Some(u32::from_ne_bytes(*sample.get(at..)?.first_chunk()?));
    let at = u64::from_ne_bytes(*sample.first_chunk()?);
    let (length, captured, action, which) = (word(8)?, word(12)? as usize, word(16)?, word(20)?);
    if sample.len() < META + captured {
        return None;
    }
    sample.truncate(META + captured);
    let bytes = sample.split_off(META);
    let way = if which & 1 == 0 { Way::In } else { Way::Out };
    Some(Seen { at, program: which >> 1, way, action, length, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_without_their_padding() {
        let mut sample = 7_u64.to_ne_bytes().to_vec();
        for word in [1500_u32, 3, 4, 1 << 1 | 1] {
            sample.extend(word.to_ne_bytes());
        }
        sample.extend([9, 8, 7, 0, 0, 0, 0, 0]);
        let seen = read(sample.clone()).unwrap();
        assert_eq!((seen.at, seen.program, seen.way, seen.action, seen.length), (7, 1, Way::Out, 4, 1500));
        assert_eq!(seen.bytes, [9, 8, 7]);
        for end in 0..META + 3 {
            assert_eq!(read(sample[..end].to_vec()), None);
        }
    }
}
