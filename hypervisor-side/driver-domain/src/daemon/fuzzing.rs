//! A monitor's connection that is served by whoever calls, message by message.

use super::connection::Connection;
use super::holdings::Holdings;
use super::{Daemon, lock};
use crate::socket::PacketSocket;
use std::sync::{Arc, Mutex};

/// A connection. Dropped, it gives back what it has.
pub struct Served {
    daemon: Arc<Daemon>,
    connection: Connection,
    holdings: Arc<Mutex<Holdings>>,
    number: u64,
}

impl Served {
    /// A connection over one end of a pair.
    #[must_use]
    pub fn new(daemon: &Arc<Daemon>, socket: PacketSocket) -> Self {
        let holdings = Arc::<Mutex<Holdings>>::default();
        let number = daemon.enroll(&holdings);
        let connection = Connection::new(Arc::clone(daemon), socket, Arc::clone(&holdings));
        Self { daemon: Arc::clone(daemon), connection, holdings, number }
    }

    /// Answers the message that is there.
    ///
    /// # Errors
    /// Why the connection ended.
    pub fn step(&mut self) -> Result<(), String> {
        self.connection.step().map_err(|end| end.to_string())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        lock(&self.holdings).give_back();
        lock(&self.daemon.monitors).remove(&self.number);
    }
}
