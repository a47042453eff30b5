//! One device's grants: which extents of guest memory its backend may use, under names with a generation.
//!
//! Share and revoke are answered by the machine, so a grant is in one of three phases. It can be named by a request only
//! while it is live.

use crate::GuestAddr;
use pvkit_abi::grant::{Access, GrantRef, MAX_GRANTS};
use pvkit_abi::status::CallError;

/// An extent of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) base: GuestAddr,
    pub(crate) length: u64,
    pub(crate) access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The backend has not said yet that it knows it.
    Sharing,
    Live,
    /// The backend has not said yet that it forgot it.
    Revoking,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Of the present grant or the last one; 0 only before the first.
    generation: u16,
    grant: Option<(Extent, Phase)>,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    /// By index; grows up to [`MAX_GRANTS`].
    slots: Vec<Slot>,
}

impl Grants {
    /// A name for the extent, not live before [`Grants::shared`].
    ///
    /// # Errors
    /// `LIMIT` if the table is full.
    pub(crate) fn share(&mut self, extent: Extent) -> Result<GrantRef, CallError> {
        let free = self.slots.iter().position(|slot| slot.grant.is_none()).unwrap_or(self.slots.len());
        if free >= MAX_GRANTS {
            return Err(CallError::LIMIT);
        }
        if free == self.slots.len() {
            self.slots.push(Slot::default());
        }
        let slot = self.slots.get_mut(free).ok_or(CallError::LIMIT)?;
        slot.generation = next_generation(slot.generation);
        slot.grant = Some((extent, Phase::Sharing));
        let index = u16::try_from(free).map_err(|_| CallError::LIMIT)?;
        Ok(GrantRef::new(index, slot.generation))
    }

    /// The backend knows the grant (`done`), or refused it.
    pub(crate) fn shared(&mut self, grant: GrantRef, done: bool) {
        self.settle(grant, if done { Some(Phase::Live) } else { None });
    }

    /// Begins to take a grant back.
    ///
    /// # Errors
    /// `NOT_FOUND` for a name that is not granted; `BUSY` if it is not live.
    pub(crate) fn revoke(&mut self, grant: GrantRef) -> Result<(), CallError> {
        match self.grant(grant) {
            Some((_, phase @ Phase::Live)) => {
                *phase = Phase::Revoking;
                Ok(())
            }
            Some(_) => Err(CallError::BUSY),
            None => Err(CallError::NOT_FOUND),
        }
    }

    /// The backend forgot the grant (`done`), or failed to: then it can still reach the extent, and it stays live.
    pub(crate) fn revoked(&mut self, grant: GrantRef, done: bool) {
        self.settle(grant, if done { None } else { Some(Phase::Live) });
    }

    /// The extent of a live grant.
    ///
    /// # Errors
    /// As for [`Grants::revoke`].
    pub(crate) fn query(&mut self, grant: GrantRef) -> Result<Extent, CallError> {
        match self.grant(grant) {
            Some((extent, Phase::Live)) => Ok(*extent),
            Some(_) => Err(CallError::BUSY),
            None => Err(CallError::NOT_FOUND),
        }
    }

    /// The epoch ended: no name is valid any more. Generations are kept, so none of them becomes valid again soon.
    pub(crate) fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.grant = None;
        }
    }

    /// Grants in any phase.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (GrantRef, Extent)> + '_ {
        self.slots
            .iter()
            .zip(0..=u16::MAX)
            .filter_map(|(slot, index)| slot.grant.map(|(extent, _)| (GrantRef::new(index, slot.generation), extent)))
    }

    fn settle(&mut self, grant: GrantRef, phase: Option<Phase>) {
        if let Some(slot) = self.slot(grant) {
            slot.grant = slot.grant.and_then(|(extent, _)| Some((extent, phase?)));
        }
    }

    fn grant(&mut self, grant: GrantRef) -> Option<&mut (Extent, Phase)> {
        self.slot(grant)?.grant.as_mut()
    }

    /// The guest's name may be anything.
    fn slot(&mut self, grant: GrantRef) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(usize::from(grant.index()))?;
        (slot.generation == grant.generation() && grant.generation() != 0).then_some(slot)
    }
}

/// 1, 2, .. 65535, 1, ...
const fn next_generation(generation: u16) -> u16 {
    match generation.checked_add(1) {
        Some(next) => next,
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENT: Extent = Extent { base: GuestAddr(0), length: 4096, access: Access::READ };

    #[test]
    fn generation_wraps_past_zero() {
        let mut grants = Grants::default();
        let mut last = GrantRef::NONE;
        for _ in 0..=u32::from(u16::MAX) {
            let grant = grants.share(EXTENT).unwrap();
            assert_ne!(grant.generation(), 0);
            assert_ne!(grant, last);
            grants.shared(grant, false);
            last = grant;
        }
        assert_eq!(last, GrantRef::new(0, 1), "65536 grants in one slot, 65535 names");
    }

    #[test]
    fn grant_can_be_named_only_while_it_is_live() {
        let mut grants = Grants::default();
        let grant = grants.share(EXTENT).unwrap();
        assert_eq!(grants.query(grant), Err(CallError::BUSY));
        grants.shared(grant, true);
        assert_eq!(grants.query(grant), Ok(EXTENT));
        assert_eq!(grants.revoke(grant), Ok(()));
        assert_eq!(grants.revoke(grant), Err(CallError::BUSY));
        grants.revoked(grant, false);
        assert_eq!(grants.query(grant), Ok(EXTENT), "the backend still reaches it");
        assert_eq!(grants.revoke(grant), Ok(()));
        grants.revoked(grant, true);
        assert_eq!(grants.query(grant), Err(CallError::NOT_FOUND));
    }

    #[test]
    fn names_of_before_clear_stay_dead() {
        let mut grants = Grants::default();
        let old = grants.share(EXTENT).unwrap();
        grants.shared(old, true);
        grants.clear();
        let new = grants.share(EXTENT).unwrap();
        grants.shared(new, true);
        assert_eq!((grants.query(old), grants.query(new)), (Err(CallError::NOT_FOUND), Ok(EXTENT)));
        grants.revoked(old, true);
        assert_eq!(grants.query(new), Ok(EXTENT), "a late answer to the old name");
    }
}
