//! When the thread must wake although nothing happens.

use super::source::Source;
use std::collections::BTreeSet;
use std::time::Instant;

/// Deadlines, at most one for each source. The source's owner keeps the deadline that is armed.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Instant, Source)>);

impl Timers {
    /// Moves the deadline of `source` from `*armed` to `due`.
    pub(super) fn arm(&mut self, source: Source, armed: &mut Option<Instant>, due: Option<Instant>) {
        if *armed == due {
            return;
        }
        if let Some(old) = armed.take() {
            self.0.remove(&(old, source));
        }
        if let Some(new) = due {
            self.0.insert((new, source));
        }
        *armed = due;
    }

    /// The earliest deadline.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.0.first().map(|&(due, _)| due)
    }

    /// Takes a source whose deadline has passed; its owner must forget that it was armed.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Source> {
        if self.earliest()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, source)| source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_source_has_one_deadline_and_fires_once() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut timers = Timers::default();
        let mut armed = None;
        timers.arm(Source::Tcp(3), &mut armed, Some(later));
        timers.arm(Source::Tcp(3), &mut armed, Some(now));
        assert_eq!(timers.earliest(), Some(now));
        assert_eq!(timers.pop(now), Some(Source::Tcp(3)));
        assert_eq!(timers.pop(later), None, "the deadline that was moved is gone");
    }
}
