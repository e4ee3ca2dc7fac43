//! What balancers of one virtual router tell each other about their flows, so that connections live through a move of the VIP.
//!
//! ```text
//!  Change ──> Node ──> Peer: outbox ──chunks──> Wish::Send ~~~ network ~~~> Peer: inbox ──> Output::Apply
//!  Table ───> Node ──> Peer: Telling ──parts──^                              Hearing ─────> Output::Settle
//! ```
//! - **Sessions.** Both ends choose a nonce and prove with the shared key that they have heard the other's (`peer`), so a
//!   recording opens no session; keys are of both nonces, datagrams are numbered and each is believed once (`window`).
//! - **Order.** What happens is told in a sequence without gaps (`outbox`, `inbox`), each chunk until it was confirmed. What
//!   does not fit the queue is not told: the whole table is, instead.
//! - **Whole tables** (`look`) go to each peer when a session opens, when events were lost at either end, and, those of the
//!   VIPs that this node holds, every few minutes. Changes that happen meanwhile go first, and what they are about is left
//!   out of the table, which is older.
//! - **What has ended unheard** is found at the end of such a table: a flow of a VIP that the sender holds and this node does
//!   not, that the two have told each other of and the sender does not have, is over; one that the sender was never told of
//!   is told. So a node that comes back empty, or was cut off from some, ends nothing.
//! - **Two records of one flow** are settled by [`Record::supersedes`]. A flow that has packets on a node stays there,
//!   whoever says that it ended.

mod codec;
mod inbox;
mod look;
mod node;
mod outbox;
mod peer;
mod record;
mod report;
mod table;
mod window;

pub use codec::{Body, Datagram, HEADER, Hello, Item, LONGEST, NONCE, Nonce, PROOF, Receipt, Refusal, TAG, items};
pub use inbox::RECEIPT_AFTER;
pub use look::{FLOWS_PER_SECOND, Fate, Remainder};
pub use node::{Node, Output};
pub use outbox::{FLUSH_AFTER, QUEUE, REPEAT_AFTER, SLOWEST_REPEAT, WINDOW};
pub use peer::{HELLO_EVERY, LOOK_EVERY, PRESENCE_EVERY, SILENT_AFTER};
pub use record::{Change, FRESH_SECONDS, Key, Path, Record};
pub use report::{Counts, LAG_BOUNDS, Lag, Report};
pub use table::Table;

/// What is made of the shared key.
pub trait Cipher {
    /// Of a session.
    type Keys: Keys;
    /// Shows that whoever says these bytes has the key.
    fn prove(&self, bytes: &[u8]) -> [u8; PROOF];
    /// Whether this is that. Takes the same time for every wrong proof.
    fn is_proof(&self, bytes: &[u8], proof: &[u8; PROOF]) -> bool;
    /// The keys of a session; those of its two directions differ. `None`: there can be none.
    fn keys(&self, own: &Nonce, other: &Nonce) -> Option<Self::Keys>;
}

/// The keys of a session at one of its ends.
pub trait Keys {
    /// What both ends call the session.
    fn session(&self) -> u64;
    /// Seals a body and appends the tag. No number is used twice. `None`: it cannot be done.
    fn seal(&self, number: u64, header: &[u8; HEADER], body: &mut Vec<u8>) -> Option<()>;
    /// What was sealed; `None`: it is not as the other end has sealed it.
    fn open<'b>(&self, number: u64, header: &[u8; HEADER], body: &'b mut [u8]) -> Option<&'b [u8]>;
}
