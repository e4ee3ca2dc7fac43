//! What balancers of one virtual router tell each other about their flows, so that connections live through a move of the VIP.

mod record;

pub use record::{Change, Key, Path, Record};
