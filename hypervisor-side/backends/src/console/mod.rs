//! The console engine: the guest's byte stream to a sink, typed bytes to the guest.

mod input;
mod offer;
mod output;
mod queue;

pub use input::ConsoleInput;
pub use offer::{config_bytes, offer};
pub use queue::{ConsoleOutput, ConsoleQueue};

#[cfg(test)]
mod tests;
