//! Messages that wait for room on the bus. Bounded: a guest that does not take them costs a fixed amount of memory.

use crate::messages::message;
use pvkit_abi::bus::{Kind, Message};
use std::collections::VecDeque;

/// The queue. When it is full everything in it is dropped and one `OVERFLOW` takes its place: the guest then asks for
/// all of it by `RESCAN`, and is told the present state instead of its history.
#[derive(Debug)]
pub(crate) struct Backlog {
    limit: usize,
    waiting: VecDeque<Message>,
    overflow: bool,
}

impl Backlog {
    /// Holds `limit` messages.
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, waiting: VecDeque::new(), overflow: false }
    }

    /// Adds a message; how many were dropped for it. A device's configuration waits once, in its newest form.
    pub(crate) fn push(&mut self, message: Message) -> u64 {
        if self.overflow {
            return 1;
        }
        if message.kind == Kind::CONFIG_CHANGED
            && let Some(earlier) = self.waiting.iter_mut().find(|earlier| same_subject(earlier, &message))
        {
            *earlier = message;
            return 0;
        }
        if self.waiting.len() >= self.limit {
            let dropped = self.waiting.len() as u64;
            self.waiting.clear();
            self.overflow = true;
            return dropped.saturating_add(1);
        }
        self.waiting.push_back(message);
        0
    }

    /// The next message to send. `epoch` is the bus's, for `OVERFLOW`.
    pub(crate) fn pop(&mut self, epoch: u64) -> Option<Message> {
        if core::mem::take(&mut self.overflow) {
            return Some(message(Kind::OVERFLOW, 0, epoch));
        }
        self.waiting.pop_front()
    }

    /// Forgets everything, for a `RESCAN` that tells it all anew.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.overflow = false;
    }

    /// Messages that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

fn same_subject(a: &Message, b: &Message) -> bool {
    a.kind == b.kind && a.device == b.device && a.epoch == b.epoch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_backlog_collapses_to_one_overflow() {
        let mut backlog = Backlog::new(2);
        assert_eq!(backlog.push(message(Kind::OFFER, 1, 1)), 0);
        assert_eq!(backlog.push(message(Kind::OFFER, 2, 1)), 0);
        assert_eq!(backlog.push(message(Kind::RESCIND, 1, 1)), 3, "the two that waited and this one");
        assert_eq!(backlog.push(message(Kind::RESCIND, 2, 1)), 1);
        assert_eq!(backlog.pop(9), Some(message(Kind::OVERFLOW, 0, 9)));
        assert_eq!(backlog.pop(9), None);
        assert_eq!(backlog.push(message(Kind::OFFER, 3, 1)), 0);
        assert_eq!(backlog.pop(9), Some(message(Kind::OFFER, 3, 1)));
    }

    #[test]
    fn newer_configuration_takes_the_place_of_the_older() {
        let mut backlog = Backlog::new(2);
        let config = |device, size| Message { size, ..message(Kind::CONFIG_CHANGED, device, 1) };
        for size in 0..10 {
            assert_eq!(backlog.push(config(1, size)) + backlog.push(config(2, size)), 0);
        }
        assert_eq!([backlog.pop(1), backlog.pop(1), backlog.pop(1)], [Some(config(1, 9)), Some(config(2, 9)), None]);
    }
}
