//! What the datapath must do, as data: one table of cases, run on the host and, the same cases, on the loaded program.
//!
//! A difference between the two is by definition a fault of the thin kernel side.

mod admission;
mod arena;
mod balance;
mod chance;
mod delivery;
mod errors;
mod frame;
mod hostile;
mod model;
mod ports;
mod ranges;
mod retries;
mod shared;
mod six;
mod table;
mod tunnels;
mod world;

pub use chance::{Event, Hosts, Passing, Story, any_packet, any_story};
pub use frame::{Frame, checksum, checksums_are_right, sixth};
pub use model::{Kept, Model, Table};
pub use table::all;
pub use world::World;

use crate::abi::{Adoption, Reason, Verdict};

/// A story in steps, beginning with empty connection tables.
pub struct Case {
    /// Says what it shows.
    pub name: &'static str,
    /// Its IP version.
    pub version: u8,
    /// The tables at the beginning.
    pub world: World,
    /// What happens.
    pub steps: Vec<Step>,
}

/// One event of a story.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "some thousand in a test, and a box would be in the way of every table")]
pub enum Step {
    /// A frame arrives.
    Arrives {
        /// The frame.
        frame: Vec<u8>,
        /// How it must end.
        reason: Reason,
        /// What it must have become; unchanged where it passes or is dropped.
        becomes: Vec<u8>,
    },
    /// A frame leaves the host's own stack.
    Leaves {
        /// The frame.
        frame: Vec<u8>,
        /// How it must end.
        reason: Reason,
        /// What it must have become.
        becomes: Vec<u8>,
    },
    /// A frame leaves the host's own stack by its loopback interface.
    LeavesHome {
        /// The frame.
        frame: Vec<u8>,
        /// How it must end.
        reason: Reason,
        /// What it must have become.
        becomes: Vec<u8>,
    },
    /// The agent writes other tables; connections stay.
    Agent(World),
    /// The agent hears of a flow of another node.
    Adopts(Adoption),
}

/// Something that can run a story.
pub trait Executor {
    /// Empties the connection tables and writes these.
    fn begin(&mut self, world: &World);
    /// Writes these and leaves connections.
    fn change(&mut self, world: &World);
    /// Runs one frame that arrives; returns the reason counted and the frame afterwards.
    fn run(&mut self, frame: &[u8]) -> (Reason, Vec<u8>);
    /// Runs one frame that leaves the host's own stack; the same.
    fn leave(&mut self, frame: &[u8]) -> (Reason, Vec<u8>);
    /// The same by the loopback interface.
    fn leave_home(&mut self, frame: &[u8]) -> (Reason, Vec<u8>);
    /// Adds the entries of a flow of another node.
    fn adopt(&mut self, flow: &Adoption);
}

/// Runs a case.
///
/// # Errors
/// Which step went otherwise, and how.
pub fn play(case: &Case, executor: &mut impl Executor) -> Result<(), String> {
    executor.begin(&case.world);
    for (at, step) in case.steps.iter().enumerate() {
        let ((got, after), reason, becomes) = match step {
            Step::Agent(world) => {
                executor.change(world);
                continue;
            }
            Step::Adopts(flow) => {
                executor.adopt(flow);
                continue;
            }
            Step::LeavesHome { frame, reason, becomes } => (executor.leave_home(frame), reason, becomes),
            Step::Arrives { frame, reason, becomes } => (executor.run(frame), reason, becomes),
            Step::Leaves { frame, reason, becomes } => (executor.leave(frame), reason, becomes),
        };
        let place = format!("{}, IPv{}, step {}", case.name, case.version, at + 1);
        if got != *reason {
            return Err(format!("{place}: ended as {}, not as {}", got.label(), reason.label()));
        }
        // Nobody sees what is left of a dropped frame.
        if got.verdict() != Verdict::Drop && after != *becomes {
            return Err(format!("{place}: became\n  {after:02x?}\nnot\n  {becomes:02x?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
