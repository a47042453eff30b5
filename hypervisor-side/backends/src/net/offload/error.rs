//! What is wrong with a frame or with what its sender says of it.

/// Why a frame was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffloadError {
    /// Shorter than an Ethernet header, or longer than a frame can be.
    Length,
    /// Longer than the MTU allows, and not to be cut.
    Oversized,
    /// A flag that means nothing here.
    Flags,
    /// Fields are set that no flag gives a meaning.
    Stray,
    /// The checksum does not lie inside the frame behind its Ethernet header.
    ChecksumPlace,
    /// A kind of segmentation that there is not.
    Segmentation,
    /// An offload that was not sealed.
    NotSealed,
    /// The size of a piece is too small, or too large for the MTU.
    SegmentSize,
    /// The headers are cut off, contradict each other or the frame's length.
    Headers,
    /// The headers are not those of the segmentation that was named.
    OtherProtocol,
}

impl std::fmt::Display for OffloadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Length => "the frame is shorter than an Ethernet header or longer than 64 KiB",
            Self::Oversized => "the frame is larger than the MTU; ask for segmentation or send less",
            Self::Flags => "a flag is set that has no meaning here",
            Self::Stray => "checksum or segment fields are set without their flag",
            Self::ChecksumPlace => "the checksum does not lie inside the frame, behind the Ethernet header",
            Self::Segmentation => "there is no such segmentation",
            Self::NotSealed => "the offload was not negotiated",
            Self::SegmentSize => "the segment size is below 28 bytes or does not fit the MTU",
            Self::Headers => "the headers are cut off or contradict the frame's length",
            Self::OtherProtocol => "the headers are not those of the segmentation that was named",
        })
    }
}

impl std::error::Error for OffloadError {}
