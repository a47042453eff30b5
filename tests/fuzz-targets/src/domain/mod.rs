//! The driver domain's protocol, over real sockets, with one end that says anything.

mod daemon;
mod descriptors;
mod known;
mod monitor;
mod offer;
mod owner;

pub use daemon::hostile_daemon;
pub use monitor::hostile_monitor;
pub use offer::covers;
