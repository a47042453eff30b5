//! User-mode networking: a guest reaches the host's network without privileges, as a program of this user would.
//!
//! *Purpose.* A [`UserNetwork`] is a virtual subnet with one guest. Its gateway answers ARP, ping and DHCP, relays names
//! to the host's resolvers, and turns each TCP connection and UDP conversation of the guest into a socket of the host.
//! Ports of the host can be published: their clients are led to the guest.
//!
//! *Owners.* One thread owns everything; [`UserNetwork`] only puts frames into its inbox. Dropping the network ends the
//! thread and closes the sockets.
//!
//! *Invariants.* What the guest sends is parsed, judged and terminated here; no packet of its own leaves the host. All
//! tables, buffers and queues are bounded ([`UserLimits`]). The host's loopback is closed unless asked for
//! ([`UserOptions::allow_loopback`]). An idle network sleeps.
//!
//! *Ordering.* A frame passes `intake`, then `tcp` or `udp` (`route` says where a destination leads), then the host's
//! socket; what comes back leaves by `link`.
//!
//! *Not here.* IPv6 for the guest, IP fragments, ping beyond the gateway: such frames are counted and dropped.

mod counters;
mod dhcp;
pub(super) mod dns;
mod engine;
mod error;
mod hub;
mod intake;
mod link;
mod options;
mod publish;
mod route;
mod slots;
mod source;
mod tcp;
#[cfg(test)]
mod tests;
mod timers;
mod udp;

pub use counters::UserSnapshot;
pub use error::UserError;
pub use options::{Protocol, Publish, Resolvers, UserLimits, UserOptions};

use super::{Frame, Inbox, Network, Steering};
use counters::Counters;
use engine::{Engine, Shared};
use publish::Bound;
use pvkit_abi::net::NetFeatures;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

/// A virtual subnet whose one guest reaches the network of the host.
#[derive(Debug)]
pub struct UserNetwork {
    shared: Arc<Shared>,
    published: Vec<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

impl UserNetwork {
    /// Starts a network. Frames for the guest are handed to `guest`, and by nobody else.
    ///
    /// # Errors
    /// The options contradict themselves, a port to be published cannot be had, or the system is out of something.
    pub fn start(options: UserOptions, guest: Arc<Steering>) -> Result<Arc<Self>, UserError> {
        options.check()?;
        let bound = options.publish.iter().map(Bound::new).collect::<Result<Vec<_>, _>>()?;
        let published = bound.iter().map(Bound::address).collect::<Result<_, _>>().map_err(UserError::Resources)?;
        let shared = Arc::new(Shared {
            inbox: Inbox::new(options.limits.inbox).map_err(UserError::Resources)?,
            counters: Arc::new(Counters::default()),
            stop: AtomicBool::new(false),
        });
        let engine = Engine::new(options, Arc::clone(&shared), guest, bound).map_err(UserError::Resources)?;
        let thread = Builder::new().name("pvkit-user-net".into()).spawn(move || engine.run());
        let thread = thread.map_err(UserError::Resources)?;
        Ok(Arc::new(Self { shared, published, thread: Some(thread) }))
    }

    /// Where the published ports really listen, in the order of [`UserOptions::publish`].
    #[must_use]
    pub fn published(&self) -> Vec<SocketAddr> {
        self.published.clone()
    }

    /// What the network did so far.
    #[must_use]
    pub fn counters(&self) -> UserSnapshot {
        let mut snapshot = self.shared.counters.snapshot();
        snapshot.dropped_frames += self.shared.inbox.dropped();
        snapshot
    }
}

impl Network for UserNetwork {
    fn send(&self, frame: Frame) {
        self.shared.inbox.push(frame);
    }

    fn features(&self) -> NetFeatures {
        // Connections end here, so an oversized segment is as good as several, and its checksum is nobody's.
        NetFeatures::TX_CHECKSUM.union(NetFeatures::TX_TSO4)
    }

    fn agreed(&self, _: NetFeatures) {
        // What the guest may leave to us is taken whether or not it said so; nothing is left to the guest.
    }
}

impl Drop for UserNetwork {
    fn drop(&mut self) {
        // ORDER: pairs with user::engine::Engine::run; visible before the thread is woken by the next line.
        self.shared.stop.store(true, Ordering::Release);
        // Fails only when the counter is full, and then the thread is awake.
        let _ = self.shared.inbox.wake_fd().write(1);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing left to close.
            let _ = thread.join();
        }
    }
}
