//! Whose the connections are: how many each process has, and how often it makes one.
//!
//! *Bounds.* A process is remembered while it has a connection, and for as long after as its rate takes to be whole. A process
//! that the kernel does not name (it is in another PID namespace) is bounded by the number of all connections alone.

use super::lock;
use super::quotas::{Quotas, turn};
use pvkit_backends::Rate;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A process's number, as the kernel says.
pub type Process = i32;

#[derive(Debug)]
struct Peer {
    connections: usize,
    rate: Rate,
}

/// Every process that has a connection, or had one a moment ago.
#[derive(Debug, Default)]
pub struct Peers(Mutex<BTreeMap<Process, Peer>>);

/// A connection, counted until this is dropped.
#[derive(Debug)]
pub struct Place {
    peers: Arc<Peers>,
    process: Option<Process>,
}

impl Peers {
    fn peers(&self) -> MutexGuard<'_, BTreeMap<Process, Peer>> {
        lock(&self.0)
    }

    /// One more connection of a process; `None` if it has as many as it may.
    pub fn enter(self: &Arc<Self>, process: Option<Process>, quotas: &Quotas) -> Option<Place> {
        let mut peers = self.peers();
        let now = Instant::now();
        peers.retain(|_, peer| peer.connections > 0 || !peer.rate.is_whole(now));
        if let Some(process) = process {
            let peer = peers.entry(process).or_insert_with(|| Peer { connections: 0, rate: quotas.connects.start() });
            if peer.connections >= quotas.of_process {
                return None;
            }
            peer.connections += 1;
        }
        Some(Place { peers: Arc::clone(self), process })
    }
}

impl Place {
    /// How long the connection has to wait before it is served; none if it is its turn.
    pub fn turn(&self) -> Option<Duration> {
        turn(&mut self.peers.peers().get_mut(&self.process?)?.rate)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(process) = self.process else { return };
        if let Some(peer) = self.peers.peers().get_mut(&process) {
            peer.connections = peer.connections.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::quotas::Pace;

    #[test]
    fn a_process_has_so_many_connections_and_another_one_its_own() {
        let quotas = Quotas { of_process: 2, ..Quotas::default() };
        let peers = Arc::<Peers>::default();
        let held = [peers.enter(Some(1), &quotas).unwrap(), peers.enter(Some(1), &quotas).unwrap()];
        assert!(peers.enter(Some(1), &quotas).is_none());
        assert!(peers.enter(Some(2), &quotas).is_some() && peers.enter(None, &quotas).is_some());
        drop(held);
        assert!(peers.enter(Some(1), &quotas).is_some());
    }

    #[test]
    fn a_process_that_connects_too_often_waits_and_is_forgotten_once_it_does_not() {
        let connects = Pace { burst: 2, per_second: 1 };
        let quotas = Quotas { connects, ..Quotas::default() };
        let peers = Arc::<Peers>::default();
        let waits = |process| peers.enter(process, &quotas).unwrap().turn();
        assert_eq!([waits(Some(1)), waits(Some(1)), waits(Some(2)), waits(None)], [None; 4]);
        assert!(waits(Some(1)).is_some_and(|pause| pause <= Duration::from_secs(1)));
        assert_eq!(peers.peers().len(), 2);
        let all = Quotas { connects: Pace { burst: 1, per_second: u32::MAX }, ..quotas };
        let other = Arc::<Peers>::default();
        (1..1000).for_each(|process| drop(other.enter(Some(process), &all)));
        assert_eq!(other.peers().len(), 1);
    }
}
