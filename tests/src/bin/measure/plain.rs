//! Bulk over plain veths, with segments joined and checksums unfinished: straight, through nftables, and through xvip
//! by TC.
//!
//! All three in each round, one after the other, so that what else the machine does falls on all; what counts is the
//! ratio of a round. The streams are TCP alone: encryption would hide what forwarding costs.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use xvip_tests::agent::Agent;
use xvip_tests::netns::Netns;
use xvip_tests::run::Run;
use xvip_tests::topology::host;
use xvip_tests::wire::{Lan, leave_frames};

use crate::stop::{self, say};
use crate::table::{Row, print};

/// Streams at a time.
const STREAMS: usize = 4;
/// How long they run.
const FOR: Duration = Duration::from_secs(2);
/// How long everything may take to begin.
const LIMIT: Duration = Duration::from_secs(20);
const CHUNK: usize = 256 * 1024;

const CLIENT: &str = "192.0.2.10";
const SERVER: &str = "192.0.2.31";
const NFTABLES: (&str, &str) = ("192.0.2.21", "192.0.2.101");
const XVIP: (&str, &str) = ("192.0.2.22", "192.0.2.100");

/// First byte of a stream: who sends.
const UP: u8 = b'u';
const DOWN: u8 = b'd';

/// Measures `runs` rounds; true when xvip carries at least as much as nftables.
pub(crate) fn measure(run: &Arc<Run>, xvip: &Path, runs: usize) -> Result<bool> {
    let lan = Lan::create(run, "lan")?;
    let plug = |role: &str, address: &str| -> Result<Netns> {
        let (netns, port) = host(&lan, run, role, address)?;
        leave_frames(lan.netns(), port.name())?;
        Ok(netns)
    };
    let (client, server) = (plug("client", CLIENT)?, plug("server", SERVER)?);
    serve(&server)?;
    let nftables = plug("nft", NFTABLES.0)?;
    balance_by_nftables(&nftables)?;
    let mut agent = balance_by_xvip(&plug("lb1", XVIP.0)?, xvip)?;
    let mode = agent.wait_ready(LIMIT)?.datapath.mode;

    let ways = [
        ("straight", format!("{SERVER}:6443").parse()?),
        ("nftables", format!("{}:8443", NFTABLES.1).parse()?),
        ("xvip", format!("{}:8443", XVIP.1).parse()?),
    ];
    let mut rates = vec![vec![Vec::new(); ways.len()]; 2];
    for _ in 0..runs {
        for (rates, direction) in rates.iter_mut().zip([UP, DOWN]) {
            for (rates, (name, target)) in rates.iter_mut().zip(&ways) {
                if stop::asked() {
                    bail!("stopped");
                }
                let rate = client.enter(|| carry(*target, direction))?;
                rates.push(rate.with_context(|| format!("moving bytes, {name}"))?);
            }
        }
    }
    let mut rows = Vec::new();
    for (rates, direction) in rates.iter().zip(["to the server", "to the client"]) {
        for (rates, (name, _)) in rates.iter().zip(&ways) {
            rows.push(Row::new(format!("{direction}, {name}, Gbit/s"), 1, rates.clone()));
        }
        let ratio =
            |of: usize, to: usize| -> Vec<f64> { rates[of].iter().zip(&rates[to]).map(|(of, to)| of / to).collect() };
        rows.push(Row::new(format!("{direction}, nftables / straight"), 2, ratio(1, 0)));
        rows.push(Row::new(format!("{direction}, xvip / straight"), 2, ratio(2, 0)));
        rows.push(Row { bound: Some(1.0), ..Row::new(format!("{direction}, nftables / xvip"), 2, ratio(1, 2)) });
    }
    let seconds = FOR.as_secs();
    say(format!("{STREAMS} TCP streams for {seconds} s over plain veths with default offloads; xvip by {mode}"));
    print(&rows);
    say("");
    agent.stop(LIMIT)?;
    Ok(rows.iter().all(Row::kept))
}

/// Listens on the server for as long as the process lives.
fn serve(netns: &Netns) -> Result<()> {
    let listener = netns.enter(|| TcpListener::bind((SERVER, 6443)))??;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Health checks close without a word; clients that have had enough close too.
            thread::spawn(move || answer(stream));
        }
    });
    Ok(())
}

/// Sends until nobody listens, or counts what comes and says how much it was.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut direction = [0];
    stream.read_exact(&mut direction)?;
    let mut chunk = vec![0x5a; CHUNK];
    if direction[0] == DOWN {
        loop {
            stream.write_all(&chunk)?;
        }
    }
    let mut count = 0_u64;
    loop {
        match stream.read(&mut chunk)? {
            0 => return stream.write_all(&count.to_be_bytes()),
            length => count += length as u64,
        }
    }
}

/// Moves bytes by all streams at once; Gbit/s.
fn carry(target: SocketAddr, direction: u8) -> Result<f64> {
    let streams: Vec<_> = (0..STREAMS).map(|_| TcpStream::connect_timeout(&target, LIMIT)).collect::<Result<_, _>>()?;
    let began = Instant::now();
    let carried: Result<Vec<u64>> = thread::scope(|scope| {
        let all: Vec<_> =
            streams.into_iter().map(|stream| scope.spawn(move || one(stream, direction, began))).collect();
        all.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("a stream panicked"))).collect()
    });
    let bytes: u64 = carried?.into_iter().sum();
    Ok(bytes as f64 * 8.0 / 1e9 / began.elapsed().as_secs_f64())
}

/// Bytes that arrived by one stream.
fn one(mut stream: TcpStream, direction: u8, began: Instant) -> Result<u64> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(&[direction])?;
    let mut chunk = vec![0xa5; CHUNK];
    let mut count = 0;
    while began.elapsed() < FOR {
        if direction == UP {
            stream.write_all(&chunk)?;
        } else {
            match stream.read(&mut chunk)? {
                0 => bail!("the server has closed the stream"),
                length => count += length as u64,
            }
        }
    }
    if direction == UP {
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut arrived = [0; 8];
        stream.read_exact(&mut arrived)?;
        count = u64::from_be_bytes(arrived);
    }
    Ok(count)
}

/// The VIP on a node whose kernel translates destination and source.
fn balance_by_nftables(netns: &Netns) -> Result<()> {
    let (_, vip) = NFTABLES;
    netns.ip(&format!("address add {vip}/32 dev eth0"))?;
    for (key, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/eth0/send_redirects", "0"),
    ] {
        netns.sysctl(key, value)?;
    }
    let rules = format!(
        "table ip nat {{
            chain in {{ type nat hook prerouting priority dstnat; ip daddr {vip} tcp dport 8443 dnat to {SERVER}:6443; }}
            chain out {{ type nat hook postrouting priority srcnat; ip daddr {SERVER} masquerade; }}
        }}"
    );
    let mut nft: Command = netns.command("nft");
    let output = match nft.arg(rules).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!(
                "there is no nft to compare with: run `cargo xtask measure -- plain`, or install the package nftables"
            )
        }
        outcome => outcome.context("starting nft")?,
    };
    if !output.status.success() {
        bail!("nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// The VIP on a node with the agent.
fn balance_by_xvip(netns: &Netns, xvip: &Path) -> Result<Agent> {
    let (_, vip) = XVIP;
    netns.ip(&format!("address add {vip}/32 dev eth0"))?;
    let socket = Agent::socket_of(netns);
    let config = format!(
        r#"
        [node]
        name = "{}"
        interface = "eth0"
        datapath = "tc"
        [admin]
        socket = "{}"
        [[service]]
        name = "bulk"
        listen = "{vip}:8443"
        [[service.backend]]
        name = "server"
        address = "{SERVER}:6443"
        "#,
        netns.name(),
        socket.display()
    );
    let mut agent = Agent::new(xvip, netns, &config)?;
    agent.start()?;
    agent.wait_for("its backend to be up", LIMIT, |status| status.all_up())?;
    Ok(agent)
}
