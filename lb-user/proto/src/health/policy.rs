//! Which backends of a service take new connections, and whose established connections are gone.
//!
//! Health takes backends away from a service; it never takes the service away. When every backend fails, the fault is
//! as likely on the side that checks, and refusing everybody helps nobody: all are used as before.

use super::State;

/// What the decision needs to know of one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Configured share of new connections; 0: none, whatever its health.
    pub weight: u16,
    /// Its health.
    pub state: State,
}

/// What becomes of one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// New connections may go there.
    pub eligible: bool,
    /// Its established connections are to be considered gone.
    pub lost: bool,
}

/// What becomes of the backends of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Every backend with a weight fails its checks, and all of them are used all the same.
    pub fail_open: bool,
    /// One per member, in their order.
    pub standings: Vec<Standing>,
}

/// Decides over the backends of one service.
///
/// - Backends that are up take new connections. With none up, those not checked yet do: an agent that has just
///   started refuses nobody.
/// - With neither, the service fails open: all backends with a weight take new connections and no connection is
///   considered gone.
#[must_use]
pub fn decide(members: &[Member]) -> Decision {
    let any = |state: State| members.iter().any(|m| m.weight > 0 && m.state == state);
    let serving = [State::Up, State::Unchecked].into_iter().find(|s| any(*s));
    let fail_open = serving.is_none() && members.iter().any(|m| m.weight > 0);
    let standings = members
        .iter()
        .map(|m| Standing {
            eligible: m.weight > 0 && (fail_open || Some(m.state) == serving),
            lost: m.state.is_lost() && !fail_open,
        })
        .collect();
    Decision { fail_open, standings }
}

#[cfg(test)]
mod tests;
