//! Questions between agents, over UDP: does the node there deliver what is forwarded to it for a listener?
//!
//! ```text
//!  0      4       5      6       8       16                32      34
//!  | xvip | form  | kind | word  | nonce | listener address | port |     all numbers in network order
//! ```
//! An IPv4 address is written as its IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2). An answer is as long as the
//! question and goes to whoever asked, so that nobody can be flooded with more than was sent.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Bytes of a message.
pub const LENGTH: usize = 34;

const MAGIC: [u8; 4] = *b"xvip";
/// Grows when the meaning of a field changes.
const FORM: u8 = 1;
const QUESTION: u8 = 1;
const ANSWER: u8 = 2;

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Chosen by who asks, given back by who answers.
    pub nonce: u64,
    /// The listener in question.
    pub listener: SocketAddr,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Do you deliver for the listener?
    Question,
    /// Whether it is so.
    Answer(Word),
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// Yes: the datapath is attached, its tables are written, and a backend of the listener's service is on this node.
    Delivers,
    /// Not to whoever asks, so far: the node does not know it as one that forwards, or its datapath is not ready.
    NotYet,
    /// No: the node has no such service in this mode, or no backend of it.
    NotServed,
    /// No more: the agent is about to take the datapath away.
    Leaving,
}

impl Word {
    const fn code(self) -> u16 {
        match self {
            Self::NotServed => 0,
            Self::Delivers => 1,
            Self::NotYet => 2,
            Self::Leaving => 3,
        }
    }

    /// A word that is not known is a no.
    const fn of_code(code: u16) -> Self {
        match code {
            1 => Self::Delivers,
            2 => Self::NotYet,
            3 => Self::Leaving,
            _ => Self::NotServed,
        }
    }
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Too few or too many bytes.
    #[error("the message has {0} bytes, not {LENGTH}")]
    Length(usize),
    /// It does not begin as ours do.
    #[error("the message is not xvip's")]
    Magic,
    /// Of another version.
    #[error("the message has form {0}, not {FORM}: the versions of the two agents do not fit")]
    Form(u8),
    /// Neither a question nor an answer.
    #[error("the message is of kind {0}")]
    Kind(u8),
}

impl Message {
    /// The answer to this question.
    #[must_use]
    pub fn answered(self, word: Word) -> Self {
        Self { kind: Kind::Answer(word), ..self }
    }

    /// Its bytes.
    #[must_use]
    pub fn emit(&self) -> [u8; LENGTH] {
        let (kind, word) = match self.kind {
            Kind::Question => (QUESTION, 0),
            Kind::Answer(word) => (ANSWER, word.code()),
        };
        let address = match self.listener.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let mut bytes = [0; LENGTH];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = FORM;
        bytes[5] = kind;
        bytes[6..8].copy_from_slice(&word.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.nonce.to_be_bytes());
        bytes[16..32].copy_from_slice(&address.octets());
        bytes[32..].copy_from_slice(&self.listener.port().to_be_bytes());
        bytes
    }

    /// The message in `bytes`.
    ///
    /// # Errors
    /// When there is none of this form.
    pub fn parse(bytes: &[u8]) -> Result<Self, PeerError> {
        let bytes: &[u8; LENGTH] = bytes.try_into().map_err(|_| PeerError::Length(bytes.len()))?;
        let [m0, m1, m2, m3, form, kind, w0, w1, rest @ ..] = bytes;
        if [*m0, *m1, *m2, *m3] != MAGIC {
            return Err(PeerError::Magic);
        }
        if *form != FORM {
            return Err(PeerError::Form(*form));
        }
        let kind = match *kind {
            QUESTION => Kind::Question,
            ANSWER => Kind::Answer(Word::of_code(u16::from_be_bytes([*w0, *w1]))),
            other => return Err(PeerError::Kind(other)),
        };
        let (nonce, rest) = rest.split_at(8);
        let (address, port) = rest.split_at(16);
        let fixed = |bytes: &[u8]| bytes.iter().fold(0u128, |sum, byte| sum << 8 | u128::from(*byte));
        let address = Ipv6Addr::from(fixed(address)).to_canonical();
        Ok(Self { kind, nonce: fixed(nonce) as u64, listener: SocketAddr::new(address, fixed(port) as u16) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_message() -> impl Strategy<Value = Message> {
        let kind = prop_oneof![
            Just(Kind::Question),
            prop_oneof![Just(Word::Delivers), Just(Word::NotYet), Just(Word::NotServed), Just(Word::Leaving)]
                .prop_map(Kind::Answer),
        ];
        let address = prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(|octets| Ipv6Addr::from(octets).to_canonical()),
        ];
        (kind, any::<u64>(), address, any::<u16>()).prop_map(|(kind, nonce, address, port)| Message {
            kind,
            nonce,
            listener: SocketAddr::new(address, port),
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(message in any_message()) {
            prop_assert_eq!(Message::parse(&message.emit()), Ok(message));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2 * LENGTH)) {
            let _ = Message::parse(&bytes);
        }
    }

    #[test]
    fn what_is_not_a_message_is_named() {
        let good = Message { kind: Kind::Question, nonce: 7, listener: "192.0.2.100:8443".parse().unwrap() }.emit();
        assert_eq!(&good[16..], b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x64\x20\xfb");
        let with = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            Message::parse(&bytes)
        };
        assert_eq!(Message::parse(&good[1..]), Err(PeerError::Length(33)));
        assert_eq!(with(0, b'X'), Err(PeerError::Magic));
        assert_eq!(with(4, 2), Err(PeerError::Form(2)));
        assert_eq!(with(5, 3), Err(PeerError::Kind(3)));
    }
}
