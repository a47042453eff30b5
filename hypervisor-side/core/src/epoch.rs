//! Epochs: what happened before the last one has no effect any more.

/// Hands out epochs. There is one of these per domain, and nobody else makes epochs: the peers only ask for one.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    last: u64,
}

impl Epochs {
    /// Goes on behind `last`.
    pub(crate) const fn after(last: u64) -> Self {
        Self { last }
    }

    /// The last one handed out, 0 if there was none.
    pub(crate) const fn last(&self) -> u64 {
        self.last
    }

    /// An epoch later than every one before. The first ever is 1.
    pub(crate) const fn next(&mut self) -> u64 {
        // 2^63 hypercalls of a microsecond each are 292,000 years; and the value still fits a positive `i64`.
        self.last = self.last.saturating_add(1);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_grow_from_one() {
        let mut epochs = Epochs::default();
        assert_eq!([epochs.next(), epochs.next(), epochs.next()], [1, 2, 3]);
        let mut next_life = Epochs::after(epochs.last());
        assert_eq!(next_life.next(), 4);
    }
}
