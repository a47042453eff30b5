//! Frames in: the driver's pages are posted, what the host put there is copied out once, judged, and handed on.
//!
//! *Invariants.* What is handed on is a private copy, whose metadata name bytes inside it. A frame that cannot be as the
//! host says is dropped and counted, and the queue goes on. One frame joins at most as many buffers as were posted,
//! because none is posted again before it has ended.

use super::metadata::{self, IN, Wrong};
use super::pool::Pool;
use super::{Net, Seat};
use crate::block::Progress;
use crate::buffer::Buffer;
use crate::device::{Life, Link, QueueCounters, Sealed};
use crate::error::{HostFault, Misuse, RequestError};
use crate::platform::{NoMemory, Platform};
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::net::{FrameFlags, FrameHash, FrameMeta, HashKind, MAX_FRAME, NetFeatures, NetOp};
use pvkit_abi::status::Status;
use pvkit_ring::{Completed, Park};

/// What a receive queue did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveCounters {
    /// Frames handed on.
    pub received: u64,
    /// Frames dropped because they cannot be as the host says.
    pub faults: u64,
    /// The last such lie.
    pub last_fault: Option<HostFault>,
    /// Frames dropped because the caller's room was too short.
    pub too_long: u64,
    /// Buffers that the host gave back with an error.
    pub refused: u64,
}

/// A frame that was copied out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes in the caller's room.
    pub length: usize,
    /// What is left to do, or was verified. Judged: all offsets are inside the frame.
    pub meta: FrameMeta,
    /// The frame's hash, with [`NetFeatures::RSS`].
    pub hash: FrameHash,
}

/// A frame of which a part was taken.
#[derive(Clone, Copy, Debug)]
struct Joining {
    length: usize,
    meta: FrameMeta,
    hash: FrameHash,
    wrong: Option<RequestError>,
}

/// The receive queue of a pair.
#[derive(Debug)]
pub struct NetRx<'p, P: Platform, const N: usize = 32> {
    pub(super) link: Link<'p, P, N, 4>,
    pub(super) seat: Seat,
    pool: Pool<'p, P, N, 1>,
    features: NetFeatures,
    mtu: u16,
    /// What is left of a frame that broke off, not to be taken for another frame.
    skipping: bool,
    counters: ReceiveCounters,
}

impl<'p, P: Platform, const N: usize> NetRx<'p, P, N> {
    pub(super) fn new(link: Link<'p, P, N, 4>, seat: Seat, features: NetFeatures, mtu: u16) -> Self {
        let pool = Pool::new(link.sealed().depth);
        Self { link, seat, pool, features, mtu, skipping: false, counters: ReceiveCounters::default() }
    }

    /// Copies the next frame into `room`. `None` if there is none. [`MAX_FRAME`] bytes are always enough; without the
    /// features for uncut frames the MTU and 18 bytes.
    ///
    /// # Errors
    /// [`RequestError::PeerFault`]: with [`HostFault::Frame`] or [`HostFault::Length`] a frame was dropped and the queue
    /// goes on, otherwise it is latched. [`Misuse::BufferLength`]: the frame did not fit and was dropped.
    pub fn receive(&mut self, room: &mut [u8]) -> Result<Option<Received>, RequestError> {
        let frame = self.join(room);
        self.post_if_due()?;
        frame
    }

    /// Hands on up to `budget` frames that are there, each copied into `room`; says how many. Never waits. Frames that
    /// had to be dropped count for the budget, and are counted in [`NetRx::counters`].
    ///
    /// # Errors
    /// If the host broke the ring protocol (what is posted stays quarantined), or the queue is closing.
    pub fn poll(
        &mut self,
        budget: u32,
        room: &mut [u8],
        mut on_frame: impl FnMut(Received, &mut [u8]),
    ) -> Result<u32, RequestError> {
        let mut count = 0;
        for _ in 0..budget {
            match self.join(room) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    if let Some(bytes) = room.get_mut(..frame.length) {
                        on_frame(frame, bytes);
                    }
                    count += 1;
                }
                Err(error) if is_about_one_frame(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.post_if_due()?;
        Ok(count)
    }

    /// For an interrupt handler or its bottom half: [`NetRx::poll`], then asks for the next interrupt.
    ///
    /// # Errors
    /// As for `poll`.
    pub fn handle_interrupt(
        &mut self,
        budget: u32,
        room: &mut [u8],
        on_frame: impl FnMut(Received, &mut [u8]),
    ) -> Result<Progress, RequestError> {
        let completed = self.poll(budget, room, on_frame)?;
        Ok(Progress { completed, more: self.link.park() == Park::Ready })
    }

    /// For a caller that sleeps on several queues at once: looks for a while, then asks for the next interrupt. True if
    /// there is something to take, so that the caller must not sleep. Arm every queue, then sleep
    /// ([`Platform::wait`]), then poll every queue.
    ///
    /// # Errors
    /// A fault as in `poll`.
    pub fn arm(&mut self) -> Result<bool, RequestError> {
        Ok(self.link.arm()? == Park::Ready)
    }

    /// Sleeps until there is something to take or the deadline passes.
    ///
    /// # Errors
    /// [`RequestError::TimedOut`], or a fault as in `poll`.
    pub fn wait(&mut self, deadline: u64) -> Result<(), RequestError> {
        self.link.ready(deadline)
    }

    /// Buffers that the host has.
    #[must_use]
    pub fn posted(&self) -> usize {
        self.link.sealed().depth as usize - self.pool.idle()
    }

    /// Features that were sealed.
    #[must_use]
    pub const fn features(&self) -> NetFeatures {
        self.features
    }

    /// What was sealed.
    #[must_use]
    pub const fn sealed(&self) -> &Sealed {
        self.link.sealed()
    }

    /// Counts of frames so far.
    #[must_use]
    pub const fn counters(&self) -> ReceiveCounters {
        self.counters
    }

    /// Counts of the queue so far.
    #[must_use]
    pub const fn queue_counters(&self) -> QueueCounters {
        self.link.counters
    }

    /// Learns from the device's owner whether the queue is gone or detached; then its pages are free.
    ///
    /// # Errors
    /// `net` is another device.
    pub fn follow<const PAIRS: usize, const PAGES: usize>(
        &mut self,
        net: &Net<'p, P, N, PAIRS, PAGES>,
    ) -> Result<(), Misuse> {
        self.ended(net.life_for(self.seat, self.link.sealed())?);
        Ok(())
    }

    /// Another queue in the place of the one that is over, with all its buffers posted. A frame that came before and was not
    /// taken is lost.
    ///
    /// # Errors
    /// Without memory fewer buffers are posted.
    pub(super) fn adopt(&mut self, link: Link<'p, P, N, 4>) -> Result<(), RequestError> {
        self.ended(Life::Detached);
        self.link.succeed(link);
        self.skipping = false;
        self.post()
    }

    pub(super) fn ended(&mut self, life: Life) {
        self.link.follow(life);
        if self.link.is_detached() {
            self.pool.clear();
            self.link.counters.quarantined = 0;
        }
    }

    /// Bytes of a posted buffer.
    fn buffer_bytes(&self) -> usize {
        PAGE_SIZE.min(self.link.sealed().max_transfer as usize)
    }

    /// Takes one frame off the ring, in all its parts.
    fn join(&mut self, room: &mut [u8]) -> Result<Option<Received>, RequestError> {
        let mut joining = None;
        // A completion leaves the ring at each turn, and nothing is posted meanwhile.
        while let Some((completed, [_, meta, hash, zero])) = self.take()? {
            let meta = FrameMeta(meta);
            let frame = joining.get_or_insert(Joining { length: 0, meta, hash: FrameHash(hash), wrong: None });
            let more = meta.flags() & FrameFlags::MORE.bits() != 0;
            self.part(frame, completed, zero, more, room);
            let ended = completed.result.status() != Status::OK || !more;
            if ended && core::mem::take(&mut self.skipping) {
                joining = None;
            } else if ended {
                return self.judge(*frame).map(Some);
            }
        }
        match joining {
            None => Ok(None),
            Some(_) if self.skipping => Ok(None),
            Some(frame) => {
                // All parts are published together: there is no rest, or it is not one.
                self.skipping = true;
                let value = frame.length as u64;
                self.refuse(RequestError::PeerFault(HostFault::Frame { what: "end: it has none", value }))
            }
        }
    }

    fn take(&mut self) -> Result<Option<(Completed, [u64; 4])>, RequestError> {
        self.link.take_wide().map_err(|fault| {
            self.link.counters.quarantined = self.posted() as u64;
            fault.into()
        })
    }

    /// One buffer came back: copies out what it holds, once.
    fn part(&mut self, frame: &mut Joining, completed: Completed, zero: u64, more: bool, room: &mut [u8]) {
        let (status, claimed) = (completed.result.status(), completed.result.detail());
        let asked = self.buffer_bytes();
        let Some(index) = self.pool.unbind(completed.id) else { return };
        self.pool.push(index);
        let wrong = if status == Status::ABORTED {
            Some(RequestError::Disconnected)
        } else if status != Status::OK {
            self.counters.refused += 1;
            Some(RequestError::Io { status, detail: claimed })
        } else if claimed as usize > asked || (more && claimed as usize != asked) {
            Some(HostFault::Length { asked: asked as u32, claimed }.into())
        } else if more && !self.features.contains(NetFeatures::MERGEABLE) {
            Some(HostFault::Frame { what: "continuation", value: frame.meta.0 }.into())
        } else if zero != 0 {
            Some(HostFault::Frame { what: "reserved word", value: zero }.into())
        } else if frame.length + claimed as usize > MAX_FRAME {
            Some(HostFault::Frame { what: "length", value: (frame.length + claimed as usize) as u64 }.into())
        } else {
            None
        };
        frame.wrong = frame.wrong.or(wrong);
        if frame.wrong.is_some() {
            return;
        }
        let end = frame.length + claimed as usize;
        let limit = room.len() as u64;
        // A frame beyond the room is still counted through to its end.
        if let Some(into) = room.get_mut(frame.length..end)
            && let Some(Some(buffer)) = self.pool.buffer(index)
        {
            buffer.hand_back();
            frame.wrong = buffer.read(0, into).err().map(RequestError::Misuse);
        } else {
            frame.wrong = Some(Misuse::BufferLength { limit }.into());
        }
        frame.length = end;
    }

    /// The frame is complete: believes it or drops it.
    fn judge(&mut self, frame: Joining) -> Result<Received, RequestError> {
        if let Some(error) = frame.wrong {
            return self.refuse(error);
        }
        let fault = |what, value| RequestError::PeerFault(HostFault::Frame { what, value });
        if let Err(wrong) = metadata::check(frame.meta, frame.length, self.mtu, self.features, IN) {
            let (Wrong::Field(what, value) | Wrong::Unsealed(what, value)) = wrong;
            return self.refuse(fault(what, value));
        }
        let hash = frame.hash;
        let known = FrameHash::new(hash.hash(), hash.kind()) == hash && hash.kind().0 <= HashKind::UDP6.0;
        let hashed = hash.kind() != HashKind::NONE && self.features.contains(NetFeatures::RSS);
        if !known || (!hashed && hash != FrameHash(0)) {
            return self.refuse(fault("hash", hash.0));
        }
        self.counters.received += 1;
        let meta = FrameMeta(frame.meta.0 & !(u64::from(FrameFlags::MORE.bits()) << 56));
        Ok(Received { length: frame.length, meta, hash })
    }

    #[cold]
    fn refuse<T>(&mut self, error: RequestError) -> Result<T, RequestError> {
        match error {
            RequestError::PeerFault(fault) => {
                self.counters.faults += 1;
                self.counters.last_fault = Some(fault);
            }
            RequestError::Misuse(_) => self.counters.too_long += 1,
            _ => {}
        }
        Err(error)
    }

    /// Posts in batches: when a quarter of the buffers lie idle.
    fn post_if_due(&mut self) -> Result<(), RequestError> {
        let due = self.pool.idle() > self.link.sealed().depth as usize / 4;
        // A queue that is gone takes nothing, and that is told elsewhere.
        if due && self.link.usable().is_ok() { self.post() } else { Ok(()) }
    }

    /// Posts every idle buffer, with at most one doorbell; what there is no buffer for gets one.
    pub(super) fn post(&mut self) -> Result<(), RequestError> {
        let (platform, grant) = (self.link.platform(), *self.link.grant());
        let length = self.buffer_bytes() as u32;
        let mut batch = self.link.usable()?.batch();
        let mut ended = Ok(());
        while let Some(index) = self.pool.pop() {
            let described = self.pool.buffer(index).ok_or(NoMemory.into()).and_then(|slot| {
                if slot.is_none() {
                    *slot = Some(Buffer::allocate(platform, PAGE_SIZE)?);
                }
                slot.as_ref().ok_or(NoMemory)?.describe(&grant, length, 1)
            });
            let reserved = described.and_then(|described| {
                let words = [0, described.word2, described.word3];
                Ok(batch.reserve(NetOp::RECEIVE.0, described.flags(), 0, words)?)
            });
            match reserved {
                Ok(ticket) => self.pool.bind(ticket.id(), index),
                Err(error) => {
                    self.pool.push(index);
                    ended = Err(error);
                    break;
                }
            }
        }
        let count = batch.len();
        let notify = batch.commit();
        self.link.published(count, notify);
        ended
    }
}

/// Whether the queue goes on.
const fn is_about_one_frame(error: &RequestError) -> bool {
    matches!(
        error,
        RequestError::PeerFault(HostFault::Frame { .. } | HostFault::Length { .. })
            | RequestError::Misuse(Misuse::BufferLength { .. })
            | RequestError::Io { .. }
    )
}

impl<P: Platform, const N: usize> Drop for NetRx<'_, P, N> {
    fn drop(&mut self) {
        if !self.link.is_detached() {
            self.link.platform().note_leak(self.pool.leak());
        }
    }
}
