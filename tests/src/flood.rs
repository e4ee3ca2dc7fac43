//! A flood of SYNs, frame by frame into the loaded program (BPF_PROG_TEST_RUN), between handshakes and packets of
//! connections that mean well.

use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::{Context as _, Result, ensure};
use lb_ebpf::abi::SourceLimit;
use lb_ebpf::cases::{Frame, World};
use lb_ebpf::net::Be32;
use lb_ebpf::net::header::flag::{ACK, SYN};

use crate::bpf;
use crate::kernel::{Datapath, Hook};

/// What `XDP_TX` is.
const TX: u32 = 3;
const VIP: [u8; 4] = [192, 0, 2, 100];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x22];
/// Clients that mean well are in 10.0.0.0/8.
const CLIENTS: u32 = 0x0a00_0000;

/// What a service asks of who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Nothing.
    None,
    /// To be in 10.0.0.0/8.
    Allow,
    /// No more than ten connections a second from one address.
    Limit,
}

/// Where SYNs come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Senders {
    /// From everywhere but 10.0.0.0/8, at random.
    Random,
    /// From so many addresses.
    Few(u32),
}

/// A connection that means well.
#[derive(Debug, Clone)]
pub struct Connection {
    client: u32,
    /// As the client sees the backend's answer.
    answer: Frame,
}

/// The program, and what is sent to it.
pub struct Flood {
    datapath: Datapath,
    world: World,
    random: u64,
    clients: u32,
    /// A SYN, whose source and port change.
    syn: Vec<u8>,
}

impl Flood {
    /// Loads the program with room for so many flows and handshakes.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(guard: Guard, flows: u32, handshakes: u32) -> Result<Self> {
        let mut world = World::standard();
        (world.node.first_port, world.node.port_count, world.capacity) = (1024, 60_000, 2 * flows);
        // As the agent sets them: what answers are left to the next second is no measure here.
        world.node.port_jitter = 7;
        let service = world.services.first_mut().map(|(_, service)| service).context("no service")?;
        match guard {
            Guard::None => {}
            Guard::Allow => {
                service.allow = 1;
                world.allowed = vec![(1, Be32::new(CLIENTS).into(), 96 + 8)];
            }
            Guard::Limit => {
                service.is_limited = 1;
                let interval = 100_000_000;
                let limit = SourceLimit {
                    interval,
                    tolerance: 9 * interval,
                    mask: lb_ebpf::abi::mask(128),
                    ..SourceLimit::default()
                };
                world.limits = vec![(0, limit)];
            }
        }
        let mut datapath = Datapath::load_sized(xvip::bpf::OBJECT, 2 * flows, 2 * handshakes, Hook::Xdp)?;
        datapath.write(&world)?;
        let syn = first(&world, CLIENTS, 40_000).bytes();
        Ok(Self { datapath, world, random: 0x9e37_79b9_7f4a_7c15, clients: 0, syn })
    }

    /// The program and its tables.
    #[must_use]
    pub fn datapath(&self) -> &Datapath {
        &self.datapath
    }

    /// A client that means well sends its SYN, and the backend answers at once; `None`: it was not let through.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn knock(&mut self) -> Result<Option<Connection>> {
        self.clients += 1;
        let client = CLIENTS + self.clients;
        let syn = first(&self.world, client, 40_000);
        let Some(there) = self.pass(&syn)?.filter(is_backend) else {
            return Ok(None);
        };
        let syn_ack = Frame { flags: SYN | ACK, sequence: 5000, ..there.answered() };
        let answer = self.pass(&syn_ack)?.filter(|frame| frame.flags == SYN | ACK);
        Ok(answer.map(|answer| Connection { client, answer }))
    }

    /// The client completes its handshake; whether the backend hears of it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn complete(&self, connection: &Connection) -> Result<bool> {
        let ack = Frame { flags: ACK, ..connection.answer.clone().answered() };
        Ok(self.pass(&ack)?.is_some_and(|frame| is_backend(&frame)))
    }

    /// Opens a connection without anything in between.
    ///
    /// # Errors
    /// When it fails.
    pub fn open(&mut self) -> Result<Connection> {
        let connection = self.knock()?.context("a SYN was not let through")?;
        ensure!(self.complete(&connection)?, "a handshake was not completed");
        Ok(connection)
    }

    /// Whether packets of an open connection still reach both ends.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn is_alive(&self, connection: &Connection) -> Result<bool> {
        let answer = Frame { sequence: 5001, flags: ACK, ..connection.answer.clone() };
        let data = Frame { payload: b"GET /".to_vec(), sequence: 1001, acknowledgement: 5001, ..answer.answered() };
        let Some(there) = self.pass(&data)?.filter(is_backend) else {
            return Ok(false);
        };
        let reply = Frame { payload: b"OK".to_vec(), flags: ACK, ..there.answered() };
        let client = std::net::Ipv4Addr::from(connection.client);
        Ok(self.pass(&reply)?.is_some_and(|frame| frame.to == std::net::IpAddr::V4(client)))
    }

    /// Sends SYNs; the kernel's own mean duration of a run in nanoseconds.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn syns(&mut self, count: u32, senders: Senders) -> Result<f64> {
        let program = self.datapath.program()?.fd()?.as_fd().try_clone_to_owned()?;
        let mut nanoseconds = 0_u64;
        for _ in 0..count {
            self.readdress(senders);
            nanoseconds += u64::from(run(program.as_fd(), &self.syn)?);
        }
        #[allow(clippy::cast_precision_loss, reason = "a mean of some hundred nanoseconds")]
        Ok(nanoseconds as f64 / f64::from(count.max(1)))
    }

    /// The same with what the backends answer, which the table remembers: the most that a flood can do.
    fn answered_syns(&mut self, count: u32, senders: Senders) -> Result<()> {
        for _ in 0..count {
            self.readdress(senders);
            let (action, after) = self.datapath.pass(&self.syn)?;
            if let Some(there) = Frame::parse(&after).filter(|frame| action == TX && is_backend(frame)) {
                self.pass(&Frame { flags: SYN | ACK, sequence: 5000, ..there.answered() })?;
            }
        }
        Ok(())
    }

    /// Of `attempts` handshakes, in which so many SYNs arrive between the backend's answer and the client's, how many
    /// succeed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn handshakes(&mut self, attempts: u32, between: u32, senders: Senders) -> Result<u32> {
        let mut succeeded = 0;
        let mut left = attempts;
        while left > 0 {
            let group = left.min(50);
            left -= group;
            // The table is full of the flood before the client comes.
            self.answered_syns(between, senders)?;
            let knocked: Vec<_> = (0..group).map(|_| self.knock()).collect::<Result<_>>()?;
            self.answered_syns(between, senders)?;
            for connection in knocked.into_iter().flatten() {
                succeeded += u32::from(self.complete(&connection)?);
            }
        }
        Ok(succeeded)
    }

    /// What becomes of a frame that is sent on or answered; `None`: it is not.
    fn pass(&self, frame: &Frame) -> Result<Option<Frame>> {
        let (action, after) = self.datapath.pass(&frame.bytes())?;
        Ok((action == TX).then(|| Frame::parse(&after)).flatten())
    }

    /// Lets the next SYN come from somewhere else.
    fn readdress(&mut self, senders: Senders) {
        let random = self.next();
        let port = (random >> 32) as u16 | 1024;
        let source = match senders {
            // No address that a host cannot have, and none of the clients'.
            Senders::Random => loop {
                let [first, second, third, last] = (self.next() as u32).to_be_bytes();
                if (11..=223).contains(&first) && ![127, 169, 192].contains(&first) {
                    break [first, second, third, last];
                }
            },
            Senders::Few(many) => (0xcb00_7100 + (random as u32) % many).to_be_bytes(),
        };
        readdress(&mut self.syn, source, port);
    }

    /// xorshift64*: the same flood every time.
    fn next(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

fn is_backend(frame: &Frame) -> bool {
    frame.from == std::net::IpAddr::from(VIP) && frame.to_port == 6443
}

fn first(world: &World, client: u32, port: u16) -> Frame {
    Frame {
        mac_to: world.node.mac,
        mac_from: CLIENT_MAC,
        from: std::net::Ipv4Addr::from(client).into(),
        to: VIP.into(),
        from_port: port,
        to_port: 8443,
        ttl: 64,
        identification: 1,
        fragment: 0x4000,
        sequence: 1000,
        acknowledgement: 0,
        flags: SYN,
        window: 64_240,
        options: vec![2, 4, 5, 0xb4, 1, 3, 3, 7],
        payload: Vec::new(),
    }
}

/// Gives an IPv4 frame another source, and the header the checksum that goes with it. Nobody looks at TCP's.
fn readdress(frame: &mut [u8], source: [u8; 4], port: u16) {
    frame[26..30].copy_from_slice(&source);
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    frame[24..26].copy_from_slice(&[0, 0]);
    let mut sum: u32 =
        frame[14..34].chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

fn run(program: BorrowedFd<'_>, frame: &[u8]) -> Result<u32> {
    Ok(bpf::run(program, frame, 1)?.nanoseconds)
}
