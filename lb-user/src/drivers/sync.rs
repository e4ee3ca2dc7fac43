//! Shares flows with the other balancers, so that connections live through a move of the VIP.

mod flows;

pub use flows::{Adopted, Changes, Flows};
