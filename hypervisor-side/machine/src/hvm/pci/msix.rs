//! An MSI-X table: what each event port sends, and what a mask holds back. (PCI Local Bus 3.0, 6.8.2.)
//!
//! *Invariants.* Nothing a guest writes is used but as the address and data of a message to its own interrupt controller.

use pvkit_abi::pci::MSIX_ENTRIES;

/// Bytes of an entry: address low, address high, data, control.
const ENTRY_BYTES: usize = 16;
/// Control: masked.
const MASKED: u32 = 1;
/// Words of pending bits.
const PENDING_WORDS: usize = MSIX_ENTRIES as usize / 64;

/// An interrupt message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub address: u64,
    pub data: u32,
}

/// The table and its pending bits.
#[derive(Debug)]
pub struct MsiX {
    /// Four words an entry.
    table: Vec<[u32; 4]>,
    pending: [u64; PENDING_WORDS],
    /// As the function's configuration says: see [`super::Function::sends_messages`].
    on: bool,
}

impl Default for MsiX {
    /// As after a reset: every entry masked.
    fn default() -> Self {
        Self { table: vec![[0, 0, 0, MASKED]; usize::from(MSIX_ENTRIES)], pending: [0; PENDING_WORDS], on: false }
    }
}

impl MsiX {
    /// An event of `entry`: the message to send now, or it is latched. Nothing for an entry that does not exist.
    pub fn signal(&mut self, entry: usize) -> Option<Message> {
        let message = self.deliverable(entry);
        if message.is_none()
            && let Some(word) = self.pending.get_mut(entry / 64)
        {
            *word |= 1 << (entry % 64);
        }
        message
    }

    /// Follows the function's configuration; the messages that were latched and go out now.
    pub fn set_on(&mut self, on: bool) -> Vec<Message> {
        let was = std::mem::replace(&mut self.on, on);
        if !on || was {
            return Vec::new();
        }
        (0..self.table.len()).filter_map(|entry| self.release(entry)).collect()
    }

    /// Reads words of the table; what is beyond is zero.
    pub fn read_table(&self, offset: usize, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            let word = self.table.get(at / ENTRY_BYTES).and_then(|entry| entry.get(at % ENTRY_BYTES / 4));
            *byte = word.map_or(0, |word| word.to_le_bytes().get(at % 4).copied().unwrap_or(0));
        }
    }

    /// Reads pending bits.
    pub fn read_pending(&self, offset: usize, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            let word = self.pending.get(at / 8).copied().unwrap_or(0);
            *byte = word.to_le_bytes().get(at % 8).copied().unwrap_or(0);
        }
    }

    /// Writes one or two aligned words of the table; other widths have no effect. The message that was latched, if the
    /// write unmasked its entry.
    pub fn write_table(&mut self, offset: usize, data: &[u8]) -> Option<Message> {
        if !offset.is_multiple_of(4) || !matches!(data.len(), 4 | 8) {
            return None;
        }
        for (at, raw) in (offset..).step_by(4).zip(data.chunks_exact(4)) {
            let value = u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
            if let Some(word) =
                self.table.get_mut(at / ENTRY_BYTES).and_then(|entry| entry.get_mut(at % ENTRY_BYTES / 4))
            {
                *word = value;
            }
        }
        self.release(offset / ENTRY_BYTES)
    }

    /// The message of an entry that nothing masks.
    fn deliverable(&self, entry: usize) -> Option<Message> {
        let [low, high, data, control] = *self.table.get(entry)?;
        let message = Message { address: u64::from(high) << 32 | u64::from(low), data };
        (self.on && control & MASKED == 0).then_some(message)
    }

    /// Takes a latched event that nothing masks any more.
    fn release(&mut self, entry: usize) -> Option<Message> {
        let bit = 1 << (entry % 64);
        if self.pending.get(entry / 64).is_none_or(|word| word & bit == 0) {
            return None;
        }
        let message = self.deliverable(entry)?;
        if let Some(word) = self.pending.get_mut(entry / 64) {
            *word &= !bit;
        }
        Some(message)
    }
}
