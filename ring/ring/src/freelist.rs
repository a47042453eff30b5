//! The frontend's ids: a list of the free ones, and a mark on those in flight.
//!
//! The list is threaded through one array, so that an id's state is one bounded load. A reservation only walks the
//! list; nothing changes before the commit, and a revert has nothing to undo.

/// Mark of an id in flight. Above any id, as the depth ends at 4096.
const IN_FLIGHT: u16 = u16::MAX;
/// End of the list. Above any id too, so that the bounds check is also the check for the end.
const END: u16 = u16::MAX - 1;

/// For each id the next free one, or that it is in flight.
#[derive(Debug)]
pub(crate) struct FreeList<const N: usize> {
    links: [u16; N],
    head: u16,
}

impl<const N: usize> FreeList<N> {
    /// All ids below `depth`, which is at most `N`, lowest first.
    pub(crate) fn new(depth: u32) -> Self {
        let mut links = [END; N];
        for (next, link) in (1u16..).zip(links.iter_mut().take(depth as usize)) {
            *link = if u32::from(next) < depth { next } else { END };
        }
        Self { links, head: 0 }
    }

    /// All free, `first` in its order before the others, which ascend. What is not below `depth`, or was named before, is
    /// passed over.
    pub(crate) fn led_by(depth: u32, first: impl IntoIterator<Item = u16>) -> Self {
        let mut list = Self { links: [END; N], head: END };
        // Not placed yet: for this long, the mark means that.
        for link in list.links.iter_mut().take(depth as usize) {
            *link = IN_FLIGHT;
        }
        let mut last = None;
        for id in first.into_iter().chain((0u16..).take(depth as usize)) {
            let Some(link) = list.links.get_mut(usize::from(id)).filter(|link| **link == IN_FLIGHT) else { continue };
            *link = END;
            match last.and_then(|last: u16| list.links.get_mut(usize::from(last))) {
                Some(before) => *before = id,
                None => list.head = id,
            }
            last = Some(id);
        }
        list
    }

    /// Where a batch begins to walk.
    #[inline]
    pub(crate) const fn head(&self) -> u16 {
        self.head
    }

    /// What a batch walks when nothing may be reserved.
    pub(crate) const NONE: u16 = END;

    /// The free id after `id`, which is free itself; `None` at the end of the list.
    #[inline]
    pub(crate) fn after(&self, id: u16) -> Option<u16> {
        self.links.get(usize::from(id)).copied()
    }

    /// Takes the first free id, as the first of a batch that was walked.
    #[inline]
    pub(crate) fn commit(&mut self) -> Option<u16> {
        let id = self.head;
        let link = self.links.get_mut(usize::from(id))?;
        self.head = core::mem::replace(link, IN_FLIGHT);
        Some(id)
    }

    /// Puts an id that the peer names back; false if it is not in flight.
    #[inline]
    pub(crate) fn release(&mut self, id: u16) -> bool {
        match self.links.get_mut(usize::from(id)) {
            Some(link) if *link == IN_FLIGHT => {
                *link = self.head;
                self.head = id;
                true
            }
            _ => false,
        }
    }

    /// Ids in flight, ascending.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = u16> + '_ {
        (0u16..).zip(&self.links).filter(|(_, link)| **link == IN_FLIGHT).map(|(id, _)| id)
    }
}
