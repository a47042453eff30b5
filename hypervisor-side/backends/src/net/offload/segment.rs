//! Cuts an oversized TCP or UDP frame into frames that fit the wire.
//!
//! *Reference.* What each piece's header carries: RFC 9293 (sequence numbers, FIN and PSH on the last), RFC 3168 6.1.2
//! (CWR on the first only), RFC 6864 (IPv4 identification).

use super::checksum::{Sum, load, store};
use super::judge::check_segmentation;
use super::layers::{Addresses, Layers, Protocol};
use super::{OffloadError, valid};
use crate::net::Frame;
use pvkit_abi::net::FrameMeta;
use std::collections::VecDeque;

const FIN: u8 = 1;
const PSH: u8 = 8;
const CWR: u8 = 128;

/// Appends the pieces of `frame`, with their checksums finished. Their metadata says so if `says_valid`.
///
/// # Errors
/// Headers that are not those of the segmentation that the metadata names; nothing is appended.
pub fn segment(frame: &Frame, says_valid: bool, into: &mut VecDeque<Frame>) -> Result<(), OffloadError> {
    let layers = check_segmentation(&frame.bytes, frame.meta)?;
    let protocol = layers.protocol.ok_or(OffloadError::OtherProtocol)?;
    let headers = frame.bytes.get(..layers.payload).ok_or(OffloadError::Headers)?;
    let payload = frame.bytes.get(layers.payload..layers.end).ok_or(OffloadError::Headers)?;
    let size = usize::from(frame.meta.segment_size());
    let cut = Cut { layers, protocol, headers, last: (payload.len() - 1) / size };
    let meta = if says_valid { valid() } else { FrameMeta::default() };
    // All or nothing: the headers are the same length in every piece, so what the first piece allows they all do.
    let first = into.len();
    for (index, part) in payload.chunks(size).enumerate() {
        let Some(bytes) = cut.piece(index, index * size, part) else {
            into.truncate(first);
            return Err(OffloadError::Headers);
        };
        into.push_back(Frame { bytes, meta });
    }
    Ok(())
}

/// What all pieces have in common.
struct Cut<'a> {
    layers: Layers,
    protocol: Protocol,
    headers: &'a [u8],
    /// Index of the last piece.
    last: usize,
}

impl Cut<'_> {
    /// One piece: the headers, `part` of the payload, which begins at `offset`, and all fields that differ.
    fn piece(&self, index: usize, offset: usize, part: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.headers.len() + part.len());
        bytes.extend_from_slice(self.headers);
        bytes.extend_from_slice(part);
        self.emit_network(bytes.get_mut(self.layers.network..)?, index)?;
        self.emit_transport(bytes.get_mut(self.layers.transport..)?, index, offset)?;
        Some(bytes)
    }

    fn emit_network(&self, packet: &mut [u8], index: usize) -> Option<()> {
        let length = packet.len();
        match self.layers.addresses {
            Addresses::V4(_) => {
                store(packet, 2, length as u16)?;
                let identification = load(packet, 4)?.wrapping_add(index as u16);
                store(packet, 4, identification)?;
                store(packet, 10, 0)?;
                let header = self.layers.transport - self.layers.network;
                let checksum = Sum::default().add_bytes(packet.get(..header)?).checksum();
                store(packet, 10, checksum)
            }
            Addresses::V6(_) => store(packet, 4, length.checked_sub(40)? as u16),
        }
    }

    fn emit_transport(&self, segment: &mut [u8], index: usize, offset: usize) -> Option<()> {
        match self.protocol {
            Protocol::Tcp => {
                let sequence: &mut [u8; 4] = segment.get_mut(4..)?.first_chunk_mut()?;
                *sequence = u32::from_be_bytes(*sequence).wrapping_add(offset as u32).to_be_bytes();
                let flags = segment.get_mut(13)?;
                if index != self.last {
                    *flags &= !(FIN | PSH);
                }
                if index != 0 {
                    *flags &= !CWR;
                }
            }
            Protocol::Udp => store(segment, 4, segment.len() as u16)?,
        }
        let at = self.protocol.checksum_offset();
        store(segment, at, 0)?;
        let checksum = self.layers.pseudo_header(self.protocol, segment.len()).add_bytes(segment).transport_checksum();
        store(segment, at, checksum)
    }
}
