//! The memory that one device's queues may reach.
//!
//! *Owners.* The machine inserts and removes; the device's queues resolve.
//!
//! *Invariants.* What [`Pinned::resolve`] returns lies inside one live grant with the right asked for. When
//! [`GrantTable::remove`] returns, no queue can reach the extent any more: a queue holds a [`Pinned`] for as long as it
//! uses what it resolved, and removal waits for those. That is at most the one request that each queue is executing.

use pvkit_abi::grant::{Access, GrantRef, MAX_GRANTS};
use pvkit_abi::status::Status;
use pvkit_shared_memory::SharedBytes;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// Why a grant could not be inserted or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantError {
    /// The name's index is not below [`MAX_GRANTS`] or its generation is 0.
    BadName(GrantRef),
    /// The slot holds another grant; remove that first.
    Occupied(GrantRef),
    /// The slot holds no grant of this name.
    NotFound(GrantRef),
}

impl std::fmt::Display for GrantError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BadName(grant) => {
                write!(f, "{grant:?} is no grant's name: the index must be below {MAX_GRANTS}, the generation not 0")
            }
            Self::Occupied(grant) => write!(f, "the slot of {grant:?} holds another grant; revoke that one first"),
            Self::NotFound(grant) => write!(f, "{grant:?} was never shared or is already revoked"),
        }
    }
}

impl std::error::Error for GrantError {}

#[derive(Clone, Copy, Debug)]
struct Grant {
    generation: u16,
    bytes: SharedBytes,
    access: Access,
}

type Slots = [Option<Grant>; MAX_GRANTS];

/// The grants of one device, shared by its queues.
#[derive(Debug)]
pub struct GrantTable {
    slots: RwLock<Box<Slots>>,
}

impl GrantTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self { slots: RwLock::new(Box::new([None; MAX_GRANTS])) }
    }

    /// Makes an extent reachable under `name`.
    ///
    /// # Errors
    /// A name that is not one, or a slot that is taken; nothing is changed.
    pub fn insert(&self, name: GrantRef, bytes: SharedBytes, access: Access) -> Result<(), GrantError> {
        if name.generation() == 0 {
            return Err(GrantError::BadName(name));
        }
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.get_mut(usize::from(name.index())).ok_or(GrantError::BadName(name))?;
        if slot.is_some() {
            return Err(GrantError::Occupied(name));
        }
        *slot = Some(Grant { generation: name.generation(), bytes, access });
        Ok(())
    }

    /// Takes an extent back. Waits for requests that are being executed; afterwards no queue can reach it.
    ///
    /// # Errors
    /// A name that is not in the table; nothing is changed.
    pub fn remove(&self, name: GrantRef) -> Result<(), GrantError> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.get_mut(usize::from(name.index())).ok_or(GrantError::NotFound(name))?;
        if slot.is_none_or(|grant| grant.generation != name.generation()) {
            return Err(GrantError::NotFound(name));
        }
        *slot = None;
        Ok(())
    }

    /// Takes every extent back, for the end of an epoch.
    pub fn clear(&self) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        **slots = [None; MAX_GRANTS];
    }

    /// Holds the table as it is while one request is checked and executed.
    #[must_use]
    pub fn pin(&self) -> Pinned<'_> {
        Pinned { slots: self.slots.read().unwrap_or_else(PoisonError::into_inner) }
    }

    /// One resolution for a caller that keeps no pin: a later [`GrantTable::remove`] does not wait for it.
    ///
    /// # Errors
    /// As for [`Pinned::resolve`].
    pub fn resolve(&self, name: GrantRef, offset: u64, length: u32, access: Access) -> Result<SharedBytes, Status> {
        self.pin().resolve(name, offset, length, access)
    }
}

impl Default for GrantTable {
    fn default() -> Self {
        Self::new()
    }
}

/// The table, held unchanged. Drop it as soon as the request is done.
#[derive(Debug)]
pub struct Pinned<'a> {
    slots: RwLockReadGuard<'a, Box<Slots>>,
}

impl Pinned<'_> {
    /// The bytes that (grant, offset, length) names. The numbers are the peer's; any of them may be a lie.
    ///
    /// # Errors
    /// [`Status::BAD_GRANT`] if the name is unknown or stale, the run is not all inside, or a right in `access` was
    /// not granted.
    pub fn resolve(&self, name: GrantRef, offset: u64, length: u32, access: Access) -> Result<SharedBytes, Status> {
        let index = usize::from(name.index());
        if index >= MAX_GRANTS {
            return Err(Status::BAD_GRANT);
        }
        // Masked as well as checked, so that a mispredicted check does not load from a peer-chosen place.
        let grant = self.slots.get(index & (MAX_GRANTS - 1)).copied().flatten().ok_or(Status::BAD_GRANT)?;
        if grant.generation != name.generation() || !grant.access.contains(access) {
            return Err(Status::BAD_GRANT);
        }
        let offset = usize::try_from(offset).map_err(|_| Status::BAD_GRANT)?;
        grant.bytes.part(offset, length as usize).map_err(|_| Status::BAD_GRANT)
    }
}

#[cfg(test)]
mod tests;
