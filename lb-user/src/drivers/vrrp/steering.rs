//! Orders to hand addresses over, and what becomes of them.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use lb_proto::vrrp::State;
use tokio::sync::oneshot;

/// Hand addresses over to other nodes.
#[derive(Debug)]
pub struct StepDown {
    /// Of this virtual router; `None`: of all.
    pub name: Option<String>,
    /// How long this node then takes them from nobody who lives.
    pub hold: Duration,
    /// Where the outcomes go, each with the name of its virtual router; none: there is no such one.
    pub reply: oneshot::Sender<Vec<(String, Outcome)>>,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Another router has the addresses.
    HandedOver {
        /// Its address.
        to: IpAddr,
    },
    /// This node did not hold them.
    NotTheHolder {
        /// What it was.
        state: State,
        /// Who holds them, as far as that is known.
        holder: Option<IpAddr>,
    },
    /// No router claimed them in time, so this node keeps them.
    NobodyTookOver,
    /// It does not know its interface yet, and has not taken the order in.
    Starting,
}

impl Outcome {
    /// Whether the addresses are not here, as was wanted.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !matches!(self, Self::NobodyTookOver | Self::Starting)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandedOver { to } => write!(f, "handed over to {to}"),
            Self::NotTheHolder { state: State::Backup, holder: Some(holder) } => {
                write!(f, "this node does not hold it, {holder} does")
            }
            Self::NotTheHolder { state, .. } => write!(f, "this node does not hold it ({})", state.label()),
            Self::NobodyTookOver => f.write_str("nobody took over, so this node keeps it"),
            Self::Starting => f.write_str("the virtual router is only starting: ask again"),
        }
    }
}
