//! Queues that lie to the guest, for tests of guests. Behind the feature `mutants` alone; never in a released program.
//!
//! *How.* The honest engine is left as it is, but its completion area is one of our own. A [`Relay`] between it and the
//! guest's copies what it publishes, and lies on the way: another tag, another id, another length, a slot too many. So
//! everything up to the lie is what a true host does, and the guest is as far as a true guest would be.
//!
//! *Bounds.* A lie is told a stated number of times; a storm and a rewriting have bounds of their own.

mod queue;
mod random;
mod relay;
mod twist;

pub use queue::HostileQueue;
pub use relay::{Relay, SharedRelay};
pub use twist::{Plan, Twist};

#[cfg(test)]
mod tests;
