//! A disk's properties, judged once: what the rest of the driver may rely on.

use crate::error::{HostFault, Misuse};
use pvkit_abi::block::{BlockConfig, BlockFlags, MAX_BLOCK, MIN_BLOCK, SERIAL_BYTES};
use pvkit_abi::bus::CONFIG_BYTES;
use zerocopy::FromBytes;

/// A disk's properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size in bytes, a multiple of `logical_block`.
    pub capacity: u64,
    /// Unit of position and length: a power of two, 512 to 65536.
    pub logical_block: u32,
    /// Preferred unit: a power of two, at least `logical_block`.
    pub physical_block: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// Preferred unit of discards, in bytes.
    pub discard_granularity: u32,
    /// Longest discard or write of zeroes, in bytes.
    pub max_discard: u64,
    /// Serial, padded with zeros.
    pub serial: [u8; SERIAL_BYTES],
}

impl Geometry {
    /// Judges the host's configuration.
    ///
    /// # Errors
    /// The field that is impossible.
    pub(super) fn check(config: &[u8; CONFIG_BYTES]) -> Result<Self, HostFault> {
        let wrong = |field, value| HostFault::Offer { field, value };
        let config = BlockConfig::read_from_bytes(config).map_err(|_| wrong("configuration", 0))?;
        let block = config.logical_block;
        if !block.is_power_of_two() || !(MIN_BLOCK..=MAX_BLOCK).contains(&block) {
            return Err(wrong("logical_block", block.into()));
        }
        if !config.physical_block.is_power_of_two() || config.physical_block < block {
            return Err(wrong("physical_block", config.physical_block.into()));
        }
        if !config.capacity.is_multiple_of(block.into()) {
            return Err(wrong("capacity", config.capacity));
        }
        Ok(Self {
            capacity: config.capacity,
            logical_block: block,
            physical_block: config.physical_block,
            read_only: BlockFlags::from_bits_retain(config.flags).contains(BlockFlags::READ_ONLY),
            discard_granularity: config.discard_granularity,
            max_discard: config.max_discard,
            serial: config.serial,
        })
    }

    /// The serial without its padding.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        self.serial.split(|byte| *byte == 0).next().unwrap_or(&[])
    }

    /// Judges the caller's run of bytes.
    ///
    /// # Errors
    /// Not whole blocks, or not all on the device.
    pub(super) fn check_run(&self, position: u64, length: u64) -> Result<(), Misuse> {
        let block = u64::from(self.logical_block);
        if length == 0 || !position.is_multiple_of(block) || !length.is_multiple_of(block) {
            return Err(Misuse::Misaligned { block: self.logical_block });
        }
        match position.checked_add(length) {
            Some(end) if end <= self.capacity => Ok(()),
            _ => Err(Misuse::OutOfRange { capacity: self.capacity }),
        }
    }

    /// Bytes of the longest discard or write of zeroes, in whole blocks; `None` if that is none.
    pub(super) fn discard_piece(&self) -> Option<u64> {
        let block = u64::from(self.logical_block);
        Some(self.max_discard / block * block).filter(|piece| *piece > 0)
    }
}
