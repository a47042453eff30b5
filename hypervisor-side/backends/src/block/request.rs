//! A block request, from four words that a guest wrote to something that can only be carried out.
//!
//! *Invariants.* The words are the ring's private copy; an indirect list is copied once to private memory before it is
//! looked at. A [`BlockRequest`] names only granted memory with the right access, blocks inside the device, and no more
//! of either than was sealed. All sums are taken in 64 bits.

use crate::block::BlockLimits;
use crate::disk::Disk;
use crate::grants::Pinned;
use pvkit_abi::block::{BlockConfig, BlockFeatures, BlockFlags, BlockOp};
use pvkit_abi::grant::{Access, GrantRef, Segment};
use pvkit_abi::ring::RequestFlags;
use pvkit_abi::status::Status;
use pvkit_ring::Request;
use pvkit_shared_memory::SharedBytes;
use zerocopy::IntoBytes;

/// A request that was checked. The segments of a transfer stand in the caller's [`Segments`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockRequest {
    Read { position: u64, length: u64 },
    Write { position: u64, length: u64, fua: bool },
    Flush,
    Discard { position: u64, length: u64 },
    WriteZeroes { position: u64, length: u64, fua: bool },
    Identify,
}

/// Room for one request's segments, used again for the next.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    list: Vec<Segment>,
    bytes: Vec<SharedBytes>,
}

impl Segments {
    pub(crate) fn as_slice(&self) -> &[SharedBytes] {
        &self.bytes
    }
}

/// What a request is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) config: BlockConfig,
    pub(crate) features: BlockFeatures,
    pub(crate) limits: BlockLimits,
}

impl Rules {
    /// The rules now: the capacity may have changed since the last request.
    pub(crate) fn of(disk: &dyn Disk, features: BlockFeatures, limits: BlockLimits) -> Self {
        Self { config: disk.config(), features, limits }
    }
}

impl BlockRequest {
    /// Judges a request. When the guest lies, the answer is the status that its completion gets; at most
    /// `max_segments` entries are looked at.
    pub(crate) fn check(
        request: &Request,
        rules: &Rules,
        grants: &Pinned<'_>,
        segments: &mut Segments,
    ) -> Result<Self, Status> {
        segments.bytes.clear();
        let flags = RequestFlags::from_bits(request.word.flags()).ok_or(Status::UNSUPPORTED)?;
        let op = BlockOp(request.word.op());
        rules.check_flags(op, flags, request.word.aux())?;
        match op {
            BlockOp::READ => {
                let (position, length) = rules.check_transfer(request, flags, Access::WRITE, grants, segments)?;
                Ok(Self::Read { position, length })
            }
            BlockOp::WRITE => {
                rules.check_writable()?;
                let (position, length) = rules.check_transfer(request, flags, Access::READ, grants, segments)?;
                Ok(Self::Write { position, length, fua: rules.is_durable(flags) })
            }
            BlockOp::FLUSH if rules.features.contains(BlockFeatures::FLUSH) => {
                if request.words == [0; 3] {
                    Ok(Self::Flush)
                } else {
                    Err(Status::INVALID)
                }
            }
            BlockOp::DISCARD if rules.features.contains(BlockFeatures::DISCARD) => {
                let (position, length) = rules.check_run(request)?;
                Ok(Self::Discard { position, length })
            }
            BlockOp::WRITE_ZEROES if rules.features.contains(BlockFeatures::WRITE_ZEROES) => {
                let (position, length) = rules.check_run(request)?;
                Ok(Self::WriteZeroes { position, length, fua: rules.is_durable(flags) })
            }
            BlockOp::GET_ID => rules.check_identify(request, grants, segments),
            _ => Err(Status::UNSUPPORTED),
        }
    }
}

impl BlockRequest {
    /// Whether the guest's memory is read or written.
    pub(crate) const fn uses_memory(self) -> bool {
        matches!(self, Self::Read { .. } | Self::Write { .. } | Self::Identify)
    }
}

/// The one segment that a request's words name.
fn inline_segment(request: &Request) -> Segment {
    let [_, place, offset] = request.words;
    Segment { grant: GrantRef(place as u32), length: (place >> 32) as u32, offset }
}

impl Rules {
    fn check_flags(&self, op: BlockOp, flags: RequestFlags, aux: u16) -> Result<(), Status> {
        let mut known = RequestFlags::empty();
        if matches!(op, BlockOp::READ | BlockOp::WRITE) && self.features.contains(BlockFeatures::INDIRECT) {
            known |= RequestFlags::INDIRECT;
        }
        if matches!(op, BlockOp::WRITE | BlockOp::WRITE_ZEROES) && self.features.contains(BlockFeatures::FLUSH) {
            known |= RequestFlags::FUA;
        }
        if !known.contains(flags) {
            return Err(Status::UNSUPPORTED);
        }
        if aux != 0 && !flags.contains(RequestFlags::INDIRECT) {
            return Err(Status::INVALID);
        }
        Ok(())
    }

    /// Without FLUSH a guest has no other way to ask: everything is durable at completion.
    fn is_durable(&self, flags: RequestFlags) -> bool {
        flags.contains(RequestFlags::FUA) || !self.features.contains(BlockFeatures::FLUSH)
    }

    fn check_writable(&self) -> Result<(), Status> {
        let flags = BlockFlags::from_bits_retain(self.config.flags);
        if flags.contains(BlockFlags::READ_ONLY) { Err(Status::READ_ONLY) } else { Ok(()) }
    }

    /// A run of blocks inside the device.
    fn check_blocks(&self, position: u64, length: u64) -> Result<(), Status> {
        let block = u64::from(self.config.logical_block);
        if !position.is_multiple_of(block) || !length.is_multiple_of(block) {
            return Err(Status::MISALIGNED);
        }
        let end = position.checked_add(length).ok_or(Status::OUT_OF_RANGE)?;
        if end > self.config.capacity { Err(Status::OUT_OF_RANGE) } else { Ok(()) }
    }

    /// DISCARD and WRITE_ZEROES: no segment, word 3 is the length.
    fn check_run(&self, request: &Request) -> Result<(u64, u64), Status> {
        let [position, place, length] = request.words;
        if place != 0 || length == 0 {
            return Err(Status::INVALID);
        }
        self.check_writable()?;
        if length > self.config.max_discard {
            return Err(Status::TOO_LARGE);
        }
        self.check_blocks(position, length)?;
        Ok((position, length))
    }

    fn check_transfer(
        &self,
        request: &Request,
        flags: RequestFlags,
        access: Access,
        grants: &Pinned<'_>,
        segments: &mut Segments,
    ) -> Result<(u64, u64), Status> {
        let [position, ..] = request.words;
        let named = inline_segment(request);
        segments.list.clear();
        if flags.contains(RequestFlags::INDIRECT) {
            self.copy_list(named, request.word.aux(), grants, &mut segments.list)?;
        } else {
            segments.list.push(named);
        }
        let length = self.sum(&segments.list)?;
        self.check_blocks(position, length)?;
        for segment in &segments.list {
            segments.bytes.push(grants.resolve(segment.grant, segment.offset, segment.length, access)?);
        }
        Ok((position, length))
    }

    /// Copies an indirect list to private memory, once. Whatever the guest writes there afterwards changes nothing.
    fn copy_list(
        &self,
        named: Segment,
        count: u16,
        grants: &Pinned<'_>,
        list: &mut Vec<Segment>,
    ) -> Result<(), Status> {
        if u32::from(count) > self.limits.max_segments {
            return Err(Status::TOO_LARGE);
        }
        if count == 0 || u64::from(named.length) != u64::from(count) * size_of::<Segment>() as u64 {
            return Err(Status::INVALID);
        }
        let shared = grants.resolve(named.grant, named.offset, named.length, Access::READ)?;
        list.resize(usize::from(count), Segment::default());
        shared.read(0, list.as_mut_bytes()).map_err(|_| Status::BAD_GRANT)
    }

    /// The bytes that the segments name together, within the limit and each segment aligned.
    fn sum(&self, list: &[Segment]) -> Result<u64, Status> {
        let mut sum = 0u64;
        for segment in list {
            if segment.length == 0 {
                return Err(Status::INVALID);
            }
            if !segment.offset.is_multiple_of(u64::from(self.limits.alignment.max(1))) {
                return Err(Status::MISALIGNED);
            }
            // At most 2^16 entries of less than 2^32 bytes: no overflow.
            sum += u64::from(segment.length);
        }
        if sum > u64::from(self.limits.max_transfer) { Err(Status::TOO_LARGE) } else { Ok(sum) }
    }

    fn check_identify(
        &self,
        request: &Request,
        grants: &Pinned<'_>,
        segments: &mut Segments,
    ) -> Result<BlockRequest, Status> {
        let [position, ..] = request.words;
        let named = inline_segment(request);
        if position != 0 || named.length == 0 {
            return Err(Status::INVALID);
        }
        segments.bytes.push(grants.resolve(named.grant, named.offset, named.length, Access::WRITE)?);
        Ok(BlockRequest::Identify)
    }
}
