//! Which request ids are in flight, as the backend sees it.
//!
//! A byte per id rather than a bit: the check that every peer's id passes is then one bounded load and one comparison.

const FREE: u8 = 0;
const IN_FLIGHT: u8 = 1;
/// At or above the depth: never free, so that one check refuses both kinds of bad id.
const BEYOND: u8 = 2;

/// State of the ids below `N`, of which the first `depth` are used.
#[derive(Debug)]
pub(crate) struct Ids<const N: usize>([u8; N]);

impl<const N: usize> Ids<N> {
    /// All free.
    pub(crate) fn new(depth: u32) -> Self {
        let mut states = [BEYOND; N];
        for state in states.iter_mut().take(depth as usize) {
            *state = FREE;
        }
        Self(states)
    }

    /// Marks a peer's id as in flight; false if it is already, or lies outside.
    #[inline]
    pub(crate) fn insert(&mut self, id: u16) -> bool {
        self.change(id, FREE, IN_FLIGHT)
    }

    /// Marks an id as free; false if it is already, or lies outside.
    #[inline]
    pub(crate) fn remove(&mut self, id: u16) -> bool {
        self.change(id, IN_FLIGHT, FREE)
    }

    #[inline]
    fn change(&mut self, id: u16, from: u8, to: u8) -> bool {
        match self.0.get_mut(usize::from(id)) {
            Some(state) if *state == from => {
                *state = to;
                true
            }
            _ => false,
        }
    }

    /// Ids in flight, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0u16..).zip(&self.0).filter(|(_, state)| **state == IN_FLIGHT).map(|(id, _)| id)
    }
}
