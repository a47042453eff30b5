//! The services channel: what the host asks of a guest's kernel, and what the kernel answers.

mod channel;
mod queue;

pub use channel::{Answer, Services};
pub use queue::{ServicesQueue, offer};

#[cfg(test)]
mod tests;
