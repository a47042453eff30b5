//! A disk for the tests that notes what it was asked for and fails on demand.

use crate::disk::{Disk, DiskError, RamDisk};
use pvkit_abi::block::{BlockConfig, BlockFeatures, BlockFlags};
use pvkit_shared_memory::SharedBytes;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a disk was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Read(u64),
    Write { position: u64, fua: bool },
    Flush,
    Discard { position: u64, length: u64 },
    Zeroes { position: u64, fua: bool },
}

pub struct FakeDisk {
    pub ram: RamDisk,
    pub asked: Mutex<Vec<Asked>>,
    pub fails: Mutex<Option<DiskError>>,
    pub read_only: AtomicBool,
    /// Done in the middle of the next request.
    pub meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl FakeDisk {
    pub fn new(capacity: u64) -> Self {
        Self::over(RamDisk::new(capacity).unwrap())
    }

    pub fn over(ram: RamDisk) -> Self {
        Self {
            ram,
            asked: Mutex::default(),
            fails: Mutex::default(),
            read_only: AtomicBool::new(false),
            meanwhile: Mutex::default(),
        }
    }

    pub fn fail_with(&self, error: Option<DiskError>) {
        *self.fails.lock().unwrap() = error;
    }

    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn note(&self, asked: Asked) -> Result<(), DiskError> {
        self.asked.lock().unwrap().push(asked);
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(act) = meanwhile {
            act();
        }
        self.fails.lock().unwrap().map_or(Ok(()), Err)
    }
}

impl Disk for FakeDisk {
    fn capacity(&self) -> u64 {
        self.ram.capacity()
    }

    fn config(&self) -> BlockConfig {
        let read_only = self.read_only.load(Ordering::Relaxed);
        let flags = if read_only { BlockFlags::READ_ONLY.bits() } else { 0 };
        BlockConfig { flags, serial: crate::disk::serial("fake-disk-0001"), ..self.ram.config() }
    }

    fn features(&self) -> BlockFeatures {
        self.ram.features()
    }

    fn read(&self, position: u64, into: &[SharedBytes]) -> Result<(), DiskError> {
        self.note(Asked::Read(position))?;
        self.ram.read(position, into)
    }

    fn write(&self, position: u64, from: &[SharedBytes], fua: bool) -> Result<(), DiskError> {
        self.note(Asked::Write { position, fua })?;
        self.ram.write(position, from, fua)
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.note(Asked::Flush)
    }

    fn discard(&self, position: u64, length: u64) -> Result<(), DiskError> {
        self.note(Asked::Discard { position, length })?;
        self.ram.discard(position, length)
    }

    fn write_zeroes(&self, position: u64, length: u64, fua: bool) -> Result<(), DiskError> {
        self.note(Asked::Zeroes { position, fua })?;
        self.ram.write_zeroes(position, length, fua)
    }
}
