//! The bytes of what balancers tell each other about flows. All numbers are in network order.
//!
//! ```text
//!  hello    | "xvs" form | 1 | state | own nonce 32 | other's nonce 32, or zeros | proof 32 |
//!  sealed   | "xvs" form | 2 | session 8 | number 8 | body, sealed ... | tag 16 |
//!
//!  body     | 1 | chunk 8 | items ... |                     part of a sequence without gaps, from 1
//!           | 2 | flags | received up to 8 | beyond 16 |    every chunk to there, and by bits those behind it
//!
//!  item     | flags | client | listener | backend | path | next hop 6 | silence 1-5 |       a flow
//!           | 0x80 + families | client | listener |                                        a flow that ended
//!           | 0xc0 | flags | received up to 8 |                                             a look at the table begins
//!           | 0xc1 | family | address 4 or 16 |                                             a VIP that is held meanwhile
//!           | 0xc2 | still |                                                                the look ends
//! ```
//! The bits of a flow's flags, from the lowest: client, listener, backend are of IPv6 (an address is followed by its port);
//! two bits of path (translated: address and port; on a node: the same; direct: nothing), whose address is of IPv6; there is
//! a next hop. The silence is in seconds, seven bits in each byte, the lowest first, the highest bit set in all but the last.

use std::net::{IpAddr, SocketAddr};

use super::{Change, Key, Path, Record};

/// Bytes of a nonce: chosen at random for each session by either end.
pub const NONCE: usize = 32;
/// A number that was never used before and that nobody can guess.
pub type Nonce = [u8; NONCE];

/// Bytes of UDP payload at most: they fit an Ethernet frame over IPv6 and a tunnel besides.
pub const LONGEST: usize = 1400;
/// Bytes that sealing adds.
pub const TAG: usize = 16;
/// Bytes before what is sealed; they are authenticated.
pub const HEADER: usize = 21;
/// Bytes of a proof.
pub const PROOF: usize = 32;
/// Bytes of a hello without its proof.
pub(super) const HELLO: usize = 6 + 2 * NONCE;
/// Items of one chunk have to fit in there.
pub(super) const ROOM: usize = LONGEST - HEADER - TAG - 9;

const MAGIC: [u8; 3] = *b"xvs";
/// Grows when the meaning of a field changes.
const FORM: u8 = 1;
const KIND_HELLO: u8 = 1;
const KIND_SEALED: u8 = 2;
const BODY_CHUNK: u8 = 1;
const BODY_RECEIPT: u8 = 2;

const CLOSED: u8 = 0x80;
const BEGIN: u8 = 0xc0;
const HELD: u8 = 0xc1;
const END: u8 = 0xc2;

/// Why a datagram was refused. A closed set: [`Refusal::reason`] is a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// Not a message of this protocol, cut short or too long.
    #[error("it is no message of this protocol")]
    Malformed,
    /// Of a version that is not spoken here.
    #[error("it is of another version of the protocol")]
    Form,
    /// The sender is not configured.
    #[error("its sender is no peer")]
    Stranger,
    /// Of a session that is over, or was never there.
    #[error("its session is not known")]
    Session,
    /// The key differs, or somebody changed it on its way.
    #[error("it is not proven to come from who has the key")]
    Proof,
    /// It came before.
    #[error("it came before, or is too old to know")]
    Replay,
    /// Our own, sent back.
    #[error("it is our own")]
    Reflected,
    /// More than may be under way.
    #[error("it is ahead of what may be under way")]
    Ahead,
}

impl Refusal {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Malformed,
        Self::Form,
        Self::Stranger,
        Self::Session,
        Self::Proof,
        Self::Replay,
        Self::Reflected,
        Self::Ahead,
    ];

    /// Label for counters and logs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Form => "version",
            Self::Stranger => "stranger",
            Self::Session => "session",
            Self::Proof => "proof",
            Self::Replay => "replay",
            Self::Reflected => "reflected",
            Self::Ahead => "ahead",
        }
    }
}

/// What opens a session: both ends prove that they have the key now, and not in a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The sender has a session with these two nonces already.
    pub is_open: bool,
    /// The sender's.
    pub own: Nonce,
    /// The receiver's, as the sender heard it last; zeros: not yet.
    pub other: Nonce,
}

impl Hello {
    /// What the proof is about.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HELLO + PROOF);
        out.extend(MAGIC);
        out.extend([FORM, KIND_HELLO, self.is_open.into()]);
        out.extend(self.own);
        out.extend(self.other);
        out
    }
}

/// A datagram, before anything is proven.
#[derive(Debug, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// A hello, the bytes that its proof is about, and the proof.
    Hello(Hello, &'a [u8], &'a [u8; PROOF]),
    /// What only a session's keys open.
    Sealed {
        /// Which session.
        session: u64,
        /// Counts up; never the same twice in a session and direction.
        number: u64,
        /// Authenticated with the body.
        header: [u8; HEADER],
        /// The body and its tag.
        body: &'a mut [u8],
    },
}

impl<'a> Datagram<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// It is none of ours.
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, Refusal> {
        if bytes.len() > LONGEST {
            return Err(Refusal::Malformed);
        }
        match *bytes.first_chunk::<5>().ok_or(Refusal::Malformed)? {
            [a, b, c, ..] if [a, b, c] != MAGIC => Err(Refusal::Malformed),
            [_, _, _, form, _] if form != FORM => Err(Refusal::Form),
            [.., KIND_HELLO] => {
                let (signed, proof) = (*bytes).split_last_chunk::<PROOF>().ok_or(Refusal::Malformed)?;
                let mut rest = signed.get(5..).ok_or(Refusal::Malformed)?;
                let is_open = match take::<1>(&mut rest)? {
                    [0] => false,
                    [1] => true,
                    _ => return Err(Refusal::Malformed),
                };
                let hello = Hello { is_open, own: take(&mut rest)?, other: take(&mut rest)? };
                if rest.is_empty() { Ok(Self::Hello(hello, signed, proof)) } else { Err(Refusal::Malformed) }
            }
            [.., KIND_SEALED] => {
                let (header, body) = bytes.split_first_chunk_mut::<HEADER>().ok_or(Refusal::Malformed)?;
                let mut rest = header.get(5..).ok_or(Refusal::Malformed)?;
                let (session, number) = (number(&mut rest)?, number(&mut rest)?);
                Ok(Self::Sealed { session, number, header: *header, body })
            }
            _ => Err(Refusal::Malformed),
        }
    }
}

/// What stands before a sealed body.
pub(super) fn header(session: u64, number: u64) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    let fields = MAGIC.into_iter().chain([FORM, KIND_SEALED]);
    let fields = fields.chain(session.to_be_bytes()).chain(number.to_be_bytes());
    out.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
    out
}

/// Which chunks have arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The sender of this wants the whole table, because it lost part of what it was told.
    pub asks: bool,
    /// All up to here.
    pub received: u64,
    /// Bit 0 is the chunk after that, and so on.
    pub beyond: u128,
}

/// What a session carries.
#[derive(Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Items, by their place in the sequence.
    Chunk(u64, &'a [u8]),
    /// What has arrived of the other direction.
    Receipt(Receipt),
}

impl<'a> Body<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// It is none; items are not looked at.
    pub fn parse(mut bytes: &'a [u8]) -> Result<Self, Refusal> {
        match take::<1>(&mut bytes)? {
            [BODY_CHUNK] => Ok(Self::Chunk(number(&mut bytes)?, bytes)),
            [BODY_RECEIPT] => {
                let [flags] = take::<1>(&mut bytes)?;
                let receipt = Receipt {
                    asks: flags & 1 != 0,
                    received: number(&mut bytes)?,
                    beyond: u128::from_be_bytes(take(&mut bytes)?),
                };
                if flags > 1 || !bytes.is_empty() { Err(Refusal::Malformed) } else { Ok(Self::Receipt(receipt)) }
            }
            _ => Err(Refusal::Malformed),
        }
    }

    /// Writes a body.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LONGEST);
        match self {
            Self::Chunk(chunk, items) => {
                out.push(BODY_CHUNK);
                out.extend(chunk.to_be_bytes());
                out.extend(*items);
            }
            Self::Receipt(Receipt { asks, received, beyond }) => {
                out.extend([BODY_RECEIPT, (*asks).into()]);
                out.extend(received.to_be_bytes());
                out.extend(beyond.to_be_bytes());
            }
        }
        out
    }
}

/// One thing said in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A flow, or its end.
    Change(Change),
    /// The flows of the sender's table follow.
    Begin {
        /// All of them, instead of those of the VIPs that the sender holds.
        whole: bool,
        /// The sender has the receiver's whole table.
        complete: bool,
        /// And all chunks up to this one, each of which it had before it looked at the table.
        received: u64,
    },
    /// The sender holds this VIP when the look begins.
    Held(IpAddr),
    /// That was the table.
    End {
        /// The sender held all these VIPs all the time.
        still: bool,
    },
}

impl Item {
    /// Takes one off the front.
    ///
    /// # Errors
    /// There is none.
    pub fn parse(bytes: &mut &[u8]) -> Result<Self, Refusal> {
        let [flags] = take::<1>(bytes)?;
        match flags {
            BEGIN => {
                let [flags] = take::<1>(bytes)?;
                if flags > 3 {
                    return Err(Refusal::Malformed);
                }
                Ok(Self::Begin { whole: flags & 1 != 0, complete: flags & 2 != 0, received: number(bytes)? })
            }
            HELD => match take::<1>(bytes)? {
                [is_v6 @ 0..=1] => Ok(Self::Held(address(bytes, is_v6 == 1)?)),
                _ => Err(Refusal::Malformed),
            },
            END => match take::<1>(bytes)? {
                [still @ 0..=1] => Ok(Self::End { still: still == 1 }),
                _ => Err(Refusal::Malformed),
            },
            flags if flags & 0x80 == 0 => Ok(Self::Change(Change::Opened(record(flags, bytes)?))),
            flags if flags & !3 == CLOSED => Ok(Self::Change(Change::Closed(key(flags, bytes)?))),
            _ => Err(Refusal::Malformed),
        }
    }

    /// Adds one at the end.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Change(Change::Opened(record)) => emit_record(record, out),
            Self::Change(Change::Closed(key)) => {
                out.push(CLOSED | families(key));
                emit_key(key, out);
            }
            Self::Begin { whole, complete, received } => {
                out.extend([BEGIN, u8::from(*whole) | u8::from(*complete) << 1]);
                out.extend(received.to_be_bytes());
            }
            Self::Held(vip) => {
                out.extend([HELD, vip.is_ipv6().into()]);
                emit_address(*vip, out);
            }
            Self::End { still } => out.extend([END, (*still).into()]),
        }
    }
}

/// The items of a chunk.
///
/// # Errors
/// They are not whole; none of them counts then.
pub fn items(mut bytes: &[u8]) -> Result<Vec<Item>, Refusal> {
    let mut items = Vec::with_capacity(bytes.len() / 16);
    while !bytes.is_empty() {
        items.push(Item::parse(&mut bytes)?);
    }
    Ok(items)
}

fn record(flags: u8, bytes: &mut &[u8]) -> Result<Record, Refusal> {
    let key = key(flags, bytes)?;
    let backend = socket(bytes, flags & 4 != 0)?;
    let is_v6 = flags & 0x20 != 0;
    let path = match flags >> 3 & 3 {
        0 => Path::Translated(socket(bytes, is_v6)?),
        1 => {
            let at = socket(bytes, is_v6)?;
            Path::OnNode { node: at.ip(), port: at.port() }
        }
        2 if !is_v6 => Path::Direct,
        _ => return Err(Refusal::Malformed),
    };
    let next_hop = if flags & 0x40 == 0 { [0; 6] } else { take(bytes)? };
    if flags & 0x40 != 0 && next_hop == [0; 6] {
        return Err(Refusal::Malformed);
    }
    Ok(Record { key, backend, path, next_hop, silent_seconds: silence(bytes)? })
}

fn emit_record(record: &Record, out: &mut Vec<u8>) {
    let Record { key, backend, path, next_hop, silent_seconds } = record;
    let at = match path {
        Path::Translated(from) => Some(*from),
        Path::OnNode { node, port } => Some(SocketAddr::new(*node, *port)),
        Path::Direct => None,
    };
    let kind = match path {
        Path::Translated(_) => 0,
        Path::OnNode { .. } => 1,
        Path::Direct => 2,
    };
    let has_next_hop = *next_hop != [0; 6];
    let of_path = kind << 3 | u8::from(at.is_some_and(|at| at.is_ipv6())) << 5;
    out.push(families(key) | u8::from(backend.is_ipv6()) << 2 | of_path | u8::from(has_next_hop) << 6);
    emit_key(key, out);
    emit_socket(backend, out);
    if let Some(at) = at {
        emit_socket(&at, out);
    }
    if has_next_hop {
        out.extend(next_hop);
    }
    let mut silence = *silent_seconds;
    while silence > 0x7f {
        out.push(silence as u8 | 0x80);
        silence >>= 7;
    }
    out.push(silence as u8);
}

fn silence(bytes: &mut &[u8]) -> Result<u32, Refusal> {
    let mut seconds = 0;
    for place in 0..5 {
        let [byte] = take::<1>(bytes)?;
        seconds |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            // One number is written in one way.
            let is_shortest = place == 0 || byte != 0;
            return u32::try_from(seconds).ok().filter(|_| is_shortest).ok_or(Refusal::Malformed);
        }
    }
    Err(Refusal::Malformed)
}

fn families(key: &Key) -> u8 {
    u8::from(key.client.is_ipv6()) | u8::from(key.listener.is_ipv6()) << 1
}

fn key(flags: u8, bytes: &mut &[u8]) -> Result<Key, Refusal> {
    Ok(Key { client: socket(bytes, flags & 1 != 0)?, listener: socket(bytes, flags & 2 != 0)? })
}

fn emit_key(key: &Key, out: &mut Vec<u8>) {
    emit_socket(&key.client, out);
    emit_socket(&key.listener, out);
}

fn socket(bytes: &mut &[u8], is_v6: bool) -> Result<SocketAddr, Refusal> {
    let address = address(bytes, is_v6)?;
    Ok(SocketAddr::new(address, u16::from_be_bytes(take(bytes)?)))
}

fn emit_socket(socket: &SocketAddr, out: &mut Vec<u8>) {
    emit_address(socket.ip(), out);
    out.extend(socket.port().to_be_bytes());
}

fn address(bytes: &mut &[u8], is_v6: bool) -> Result<IpAddr, Refusal> {
    Ok(match is_v6 {
        true => IpAddr::from(take::<16>(bytes)?),
        false => IpAddr::from(take::<4>(bytes)?),
    })
}

fn emit_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => out.extend(address.octets()),
        IpAddr::V6(address) => out.extend(address.octets()),
    }
}

fn number(bytes: &mut &[u8]) -> Result<u64, Refusal> {
    take(bytes).map(u64::from_be_bytes)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Refusal> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(Refusal::Malformed)?;
    *bytes = rest;
    Ok(*head)
}

#[cfg(test)]
mod tests;
