//! What may be wrong with a completion, and how often.

use super::random::Random;
use pvkit_abi::net::FrameFlags;
use pvkit_abi::ring::CompletionWord;
use std::collections::VecDeque;

/// Where a frame's flags stand in word 1 of a receive completion.
const FLAGS_SHIFT: u32 = 56;

/// One way to lie in a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twist {
    /// A tag that is neither this lap's nor the last one's.
    Tag,
    /// Another id.
    Id(u16),
    /// The same completion once more, in the next slot.
    Twice,
    /// Another status.
    Status(u8),
    /// Another detail: for what is read, the length.
    Detail(u32),
    /// Receive: the frame goes on, whether it does or not.
    More,
    /// Receive: other metadata.
    Meta(u64),
    /// Receive: another hash.
    Hash(u64),
    /// Receive: something in the reserved word.
    Reserved(u64),
    /// Rewritten over and over after it was published; garbage stays.
    Rewritten,
    /// Never told.
    Swallowed,
    /// Anything, from this seed: each bit of each word behind the tag.
    Random(u64),
}

impl Twist {
    /// Changes a slot that carries `tag`.
    pub(super) fn apply(self, slot: &mut [u64], tag: u16, random: &mut Random) {
        let head = slot.first().copied().unwrap_or(0);
        let set = |slot: &mut [u64], index: usize, value: u64| {
            if let Some(word) = slot.get_mut(index) {
                *word = value;
            }
        };
        match self {
            Self::Tag => set(slot, 0, CompletionWord(head).with_tag(tag ^ 0x5a5a).0),
            Self::Id(id) => set(slot, 0, head & !(0xffff << 32) | u64::from(id) << 32),
            Self::Status(status) => set(slot, 0, head & !(0xff << 24) | u64::from(status) << 24),
            Self::Detail(detail) => set(slot, 0, head & !0xff_ffff | u64::from(detail & 0xff_ffff)),
            Self::More => {
                let meta = slot.get(1).copied().unwrap_or(0);
                set(slot, 1, meta | u64::from(FrameFlags::MORE.bits()) << FLAGS_SHIFT);
            }
            Self::Meta(meta) => set(slot, 1, meta),
            Self::Hash(hash) => set(slot, 2, hash),
            Self::Reserved(word) => set(slot, 3, word),
            Self::Random(_) => {
                slot.iter_mut().for_each(|word| *word = random.next());
                let head = slot.first().copied().unwrap_or(0);
                set(slot, 0, CompletionWord(head).with_tag(tag).0);
            }
            Self::Twice | Self::Rewritten | Self::Swallowed => {}
        }
    }
}

/// What is to be told next on a queue. Outlives the queue's epochs.
#[derive(Debug, Default)]
pub struct Plan {
    left: VecDeque<(Twist, u32)>,
}

impl Plan {
    /// Tells this lie `count` times, after those that wait.
    pub fn add(&mut self, twist: Twist, count: u32) {
        if count > 0 {
            self.left.push_back((twist, count));
        }
    }

    /// Nothing but the truth from now on.
    pub fn clear(&mut self) {
        self.left.clear();
    }

    /// The lie for the next completion, if any.
    pub(super) fn next(&mut self) -> Option<Twist> {
        let (twist, count) = self.left.front_mut()?;
        let twist = *twist;
        *count -= 1;
        if *count == 0 {
            self.left.pop_front();
        }
        Some(twist)
    }
}
