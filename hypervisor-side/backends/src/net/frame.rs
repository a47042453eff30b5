//! A frame in private memory: what travels between ports, once it has left a guest's shared memory.

use pvkit_abi::net::{FrameMeta, MAX_FRAME};

/// One Ethernet frame without its frame check sequence, with the offload metadata that came with it.
///
/// The bytes are a private copy; the metadata is the sender's word until [`super::offload`] has judged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The frame, at most [`MAX_FRAME`] bytes.
    pub bytes: Vec<u8>,
    /// What is left to be done with it.
    pub meta: FrameMeta,
}

impl Frame {
    /// A finished frame: nothing is left to be done with it.
    #[must_use]
    pub fn finished(bytes: Vec<u8>) -> Self {
        debug_assert!(bytes.len() <= MAX_FRAME);
        Self { bytes, meta: FrameMeta::default() }
    }

    /// Destination address; `None` if the frame is shorter than a header.
    #[must_use]
    pub fn destination(&self) -> Option<[u8; 6]> {
        self.bytes.first_chunk().copied()
    }

    /// Source address; `None` if the frame is shorter than a header.
    #[must_use]
    pub fn source(&self) -> Option<[u8; 6]> {
        self.bytes.get(6..12)?.first_chunk().copied()
    }
}
