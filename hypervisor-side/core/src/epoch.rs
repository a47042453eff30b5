//! Epochs: what happened before the last one has no effect any more.

/// Hands out epochs. There is one of these per domain, and nobody else makes epochs: the peers only ask for one.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    last: u64,
}

impl Epochs {
    /// An epoch later than every one before. The first is 1.
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
    }
}
