//! The granted memory that a transmit request names, checked and copied out once.

use crate::grants::Pinned;
use crate::net::offer::MAX_SEGMENTS;
use pvkit_abi::grant::{Access, GrantRef, Segment};
use pvkit_abi::net::{ETHERNET_HEADER, MAX_FRAME, NetFeatures};
use pvkit_abi::ring::RequestFlags;
use pvkit_abi::status::Status;
use pvkit_ring::Request;
use zerocopy::IntoBytes;

/// The one segment that a request's words name.
pub(super) fn inline_segment(request: &Request) -> Segment {
    let [_, place, offset] = request.words;
    Segment { grant: GrantRef(place as u32), length: (place >> 32) as u32, offset }
}

/// Copies out the frame that a request names. The list and every byte are read once; what the guest writes there
/// afterwards changes nothing. At most [`MAX_SEGMENTS`] entries and [`MAX_FRAME`] bytes are looked at.
pub(super) fn copy_frame(request: &Request, sealed: NetFeatures, grants: &Pinned<'_>) -> Result<Vec<u8>, Status> {
    let flags = RequestFlags::from_bits(request.word.flags()).ok_or(Status::UNSUPPORTED)?;
    let named = inline_segment(request);
    if flags == RequestFlags::INDIRECT && sealed.contains(NetFeatures::INDIRECT) {
        let mut list = [Segment::default(); MAX_SEGMENTS as usize];
        let list = copy_list(named, request.word.aux(), grants, &mut list)?;
        return gather(list, grants);
    }
    if !flags.is_empty() {
        return Err(Status::UNSUPPORTED);
    }
    if request.word.aux() != 0 {
        return Err(Status::INVALID);
    }
    gather(&[named], grants)
}

fn copy_list<'a>(
    named: Segment,
    count: u16,
    grants: &Pinned<'_>,
    list: &'a mut [Segment],
) -> Result<&'a [Segment], Status> {
    let list = list.get_mut(..usize::from(count)).ok_or(Status::TOO_LARGE)?;
    if list.is_empty() || named.length as usize != size_of_val(list) {
        return Err(Status::INVALID);
    }
    let shared = grants.resolve(named.grant, named.offset, named.length, Access::READ)?;
    shared.read(0, list.as_mut_bytes()).map_err(|_| Status::BAD_GRANT)?;
    Ok(list)
}

fn gather(list: &[Segment], grants: &Pinned<'_>) -> Result<Vec<u8>, Status> {
    // At most 64 entries of less than 2^32 bytes: no overflow.
    let total: u64 = list.iter().map(|segment| u64::from(segment.length)).sum();
    if total > MAX_FRAME as u64 {
        return Err(Status::TOO_LARGE);
    }
    if list.iter().any(|segment| segment.length == 0) || total < ETHERNET_HEADER as u64 {
        return Err(Status::INVALID);
    }
    let mut frame = vec![0; total as usize];
    let mut rest = frame.as_mut_slice();
    for segment in list {
        let shared = grants.resolve(segment.grant, segment.offset, segment.length, Access::READ)?;
        // The lengths add up to the frame's.
        let (part, behind) = rest.split_at_mut_checked(shared.len()).ok_or(Status::INVALID)?;
        shared.read(0, part).map_err(|_| Status::BAD_GRANT)?;
        rest = behind;
    }
    Ok(frame)
}
