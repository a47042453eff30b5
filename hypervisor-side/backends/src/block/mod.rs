//! The block engine: requests of a ring, judged and carried out on a disk.

mod limits;
mod offer;
mod queue;
mod request;

pub use limits::BlockLimits;
pub use offer::{config_bytes, offer};
pub use queue::BlockQueue;

#[cfg(test)]
mod tests;
