//! Open devices in static slots, named by handles.
//!
//! *Invariants.* A handle is `generation << 8 | slot`, with a generation from 1: it is positive, and one that was closed
//! names nothing. A slot's lock is only ever tried.

use crate::error::Error;
use spin::mutex::SpinMutex;

/// One place for a device.
struct Slot<T> {
    generation: u16,
    value: Option<T>,
}

/// Room for `N` devices of a kind, at most 256.
pub(crate) struct Slots<T, const N: usize>([SpinMutex<Slot<T>>; N]);

impl<T, const N: usize> Slots<T, N> {
    pub(crate) const fn new() -> Self {
        assert!(N <= 256);
        Self([const { SpinMutex::new(Slot { generation: 0, value: None }) }; N])
    }

    /// Fills a free slot with what `open` makes; its handle. The slot is in use until `open` ends.
    pub(crate) fn open(&self, open: impl FnOnce() -> Result<T, Error>) -> Result<i32, Error> {
        let free = self.0.iter().enumerate().find_map(|(index, slot)| {
            let slot = slot.try_lock().filter(|slot| slot.value.is_none())?;
            Some((index, slot))
        });
        let (index, mut slot) = free.ok_or(Error::Full)?;
        slot.value = Some(open()?);
        slot.generation = slot.generation.checked_add(1).unwrap_or(1);
        Ok(i32::from(slot.generation) << 8 | index as i32)
    }

    /// Does something with an open device.
    pub(crate) fn with<R>(&self, handle: i32, work: impl FnOnce(&mut T) -> Result<R, Error>) -> Result<R, Error> {
        self.locked(handle, |slot| work(slot.as_mut().ok_or(Error::NotFound)?))
    }

    /// Empties a slot if `close` succeeds; otherwise the device stays as it is.
    pub(crate) fn close(&self, handle: i32, close: impl FnOnce(&mut T) -> Result<(), Error>) -> Result<(), Error> {
        self.locked(handle, |slot| {
            close(slot.as_mut().ok_or(Error::NotFound)?)?;
            *slot = None;
            Ok(())
        })
    }

    fn locked<R>(&self, handle: i32, work: impl FnOnce(&mut Option<T>) -> Result<R, Error>) -> Result<R, Error> {
        let handle = u32::try_from(handle).map_err(|_| Error::NotFound)?;
        let slot = self.0.get((handle & 0xff) as usize).ok_or(Error::NotFound)?;
        let mut slot = slot.try_lock().ok_or(Error::Busy)?;
        if u32::from(slot.generation) != handle >> 8 {
            return Err(Error::NotFound);
        }
        work(&mut slot.value)
    }
}
