//! The header before each frame of a TAP, and the metadata that it means.
//!
//! *Reference.* `struct virtio_net_hdr` in Linux `include/uapi/linux/virtio_net.h`, in the machine's byte order.

use crate::net::Frame;
use crate::net::offload::{Layers, OffloadError};
use pvkit_abi::net::{FrameFlags, FrameMeta, Segmentation};

/// Bytes of the header.
pub(super) const BYTES: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const NONE: u8 = 0;
const TCP4: u8 = 1;
const TCP6: u8 = 4;
const UDP: u8 = 5;

/// The metadata that a header means. Offsets are still to be judged.
pub(super) fn parse(header: &[u8; BYTES]) -> Result<FrameMeta, OffloadError> {
    let &[flags, kind, _, _, size @ .., s0, s1, o0, o1] = header;
    let flags = match flags {
        0 => FrameFlags::empty(),
        NEEDS_CHECKSUM => FrameFlags::NEEDS_CHECKSUM,
        DATA_VALID => FrameFlags::CHECKSUM_VALID,
        _ => return Err(OffloadError::Flags),
    };
    let kind = match kind {
        NONE => Segmentation::NONE,
        TCP4 => Segmentation::TCP4,
        TCP6 => Segmentation::TCP6,
        UDP => Segmentation::UDP,
        _ => return Err(OffloadError::Segmentation),
    };
    // Without their flag the fields mean nothing, and may be anything.
    let size = if kind == Segmentation::NONE { 0 } else { u16::from_ne_bytes(size) };
    let is_partial = flags == FrameFlags::NEEDS_CHECKSUM;
    let place = |bytes| if is_partial { u16::from_ne_bytes(bytes) } else { 0 };
    Ok(FrameMeta::new(flags, place([s0, s1]), place([o0, o1]), kind, size))
}

/// The header for a frame that was judged.
pub(in crate::net) fn emit(frame: &Frame) -> Result<[u8; BYTES], OffloadError> {
    let meta = frame.meta;
    if meta.flags() & FrameFlags::NEEDS_CHECKSUM.bits() == 0 {
        return Ok([0; BYTES]);
    }
    let (kind, header) = match meta.segmentation() {
        Segmentation::NONE => (NONE, 0),
        Segmentation::TCP4 => (TCP4, header_bytes(frame)?),
        Segmentation::TCP6 => (TCP6, header_bytes(frame)?),
        Segmentation::UDP => (UDP, header_bytes(frame)?),
        _ => return Err(OffloadError::Segmentation),
    };
    let [h0, h1] = header.to_ne_bytes();
    let [z0, z1] = meta.segment_size().to_ne_bytes();
    let [s0, s1] = meta.checksum_start().to_ne_bytes();
    let [o0, o1] = meta.checksum_offset().to_ne_bytes();
    Ok([NEEDS_CHECKSUM, kind, h0, h1, z0, z1, s0, s1, o0, o1])
}

fn header_bytes(frame: &Frame) -> Result<u16, OffloadError> {
    let layers = Layers::parse(&frame.bytes)?.ok_or(OffloadError::OtherProtocol)?;
    u16::try_from(layers.payload).map_err(|_| OffloadError::Headers)
}
