//! A bounded table whose entries have a key and a small stable number.

use std::collections::HashMap;
use std::hash::Hash;

/// One entry.
#[derive(Debug)]
struct Slot<K, T> {
    key: K,
    birth: u64,
    value: T,
}

/// A bounded table. Numbers of entries that are gone are used again; a birth is not.
#[derive(Debug)]
pub(super) struct Slots<K, T> {
    slots: Vec<Option<Slot<K, T>>>,
    free: Vec<usize>,
    index: HashMap<K, usize>,
    limit: usize,
    births: u64,
}

impl<K: Copy + Eq + Hash, T> Slots<K, T> {
    pub(super) fn new(limit: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), index: HashMap::new(), limit, births: 0 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.index.len() >= self.limit
    }

    pub(super) fn find(&self, key: &K) -> Option<usize> {
        self.index.get(key).copied()
    }

    /// The number that the next entry will have.
    pub(super) fn next(&self) -> usize {
        self.free.last().copied().unwrap_or(self.slots.len())
    }

    /// Adds an entry under a key that must be new. `None` if the table is full.
    pub(super) fn insert(&mut self, key: K, value: T) -> Option<usize> {
        if self.is_full() || self.index.contains_key(&key) {
            return None;
        }
        let number = self.next();
        self.births = self.births.wrapping_add(1);
        let slot = Some(Slot { key, birth: self.births, value });
        match self.slots.get_mut(number) {
            Some(place) => {
                *place = slot;
                self.free.pop();
            }
            None => self.slots.push(slot),
        }
        self.index.insert(key, number);
        Some(number)
    }

    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.slots.get_mut(number)?.as_mut().map(|slot| &mut slot.value)
    }

    /// Tells an entry from others that had its number before.
    pub(super) fn birth(&self, number: usize) -> Option<u64> {
        self.slots.get(number)?.as_ref().map(|slot| slot.birth)
    }

    pub(super) fn remove(&mut self, number: usize) -> Option<T> {
        let slot = self.slots.get_mut(number)?.take()?;
        self.index.remove(&slot.key);
        self.free.push(number);
        Some(slot.value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.slots.iter().enumerate().filter_map(|(number, slot)| Some((number, &slot.as_ref()?.value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_births_are_not() {
        let mut slots = Slots::new(2);
        let first = slots.insert('a', 1).unwrap();
        let birth = slots.birth(first).unwrap();
        assert_eq!(slots.insert('a', 2), None, "a key is there once");
        let second = slots.insert('b', 2).unwrap();
        assert_eq!(slots.insert('c', 3), None, "the table is full");
        assert_eq!(slots.remove(first), Some(1));
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.find(&'a'), None);
        assert_eq!(slots.insert('c', 3), Some(first));
        assert_ne!(slots.birth(first), Some(birth));
        assert_eq!(slots.iter().map(|(number, _)| number).collect::<Vec<_>>(), [first, second]);
    }
}
