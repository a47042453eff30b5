//! KVM's own statistics of a vCPU (`KVM_GET_STATS_FD`, Linux 5.14): the count of exits that is not ours.
#![allow(unsafe_code, reason = "KVM/mmap: one of the five places named in SAFETY.md")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use vmm_sys_util::ioctl::ioctl;

vmm_sys_util::ioctl_io_nr!(KVM_GET_STATS_FD, kvm_bindings::KVMIO, 0xce);

/// Most descriptors read; today's kernels have about a hundred.
const MAX_DESCRIPTORS: usize = 1024;

/// An open statistics file and what its numbers are called.
#[derive(Debug)]
pub struct Stats {
    file: File,
    /// Name and offset of each plain counter.
    counters: Vec<(String, u64)>,
}

impl Stats {
    /// Opens the statistics of a vCPU.
    ///
    /// # Errors
    /// If the kernel has none, or describes them in a way this reader does not know.
    pub fn open(vcpu: &impl AsRawFd) -> io::Result<Self> {
        // SAFETY: KVM_GET_STATS_FD takes no argument and answers a new descriptor or -1.
        let fd = unsafe { ioctl(vcpu, KVM_GET_STATS_FD()) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
        let file = unsafe { File::from_raw_fd(fd) };
        let mut header = [0; 24];
        file.read_exact_at(&mut header, 0)?;
        let word = |bytes: &[u8], at: usize| {
            bytes.get(at..at + 4).and_then(|raw| raw.try_into().ok()).map_or(0, u32::from_le_bytes)
        };
        let (name_size, count) = (word(&header, 4) as usize, word(&header, 8) as usize);
        let (descriptors, data) = (u64::from(word(&header, 16)), u64::from(word(&header, 20)));
        if name_size > 256 || count > MAX_DESCRIPTORS {
            return Err(io::Error::other("unknown layout of KVM statistics"));
        }
        let mut table = vec![0; count * (16 + name_size)];
        file.read_exact_at(&mut table, descriptors)?;
        let counters = table.chunks_exact(16 + name_size).filter_map(|entry| {
            // Type in flags bits 0..3: 0 = cumulative. Size in u64s at byte 6.
            let plain = word(entry, 0) & 0xf == 0 && entry.get(6..8) == Some(&[1, 0]);
            let raw = entry.get(16..)?;
            let end = raw.iter().position(|byte| *byte == 0).unwrap_or(raw.len());
            let name = String::from_utf8_lossy(raw.get(..end)?).into_owned();
            plain.then(|| (name, data + u64::from(word(entry, 8))))
        });
        Ok(Self { counters: counters.collect(), file })
    }

    /// Every plain counter that is not zero.
    pub fn read(&self) -> BTreeMap<String, u64> {
        let value = |offset: u64| {
            let mut raw = [0; 8];
            self.file.read_exact_at(&mut raw, offset).map(|()| u64::from_le_bytes(raw)).unwrap_or(0)
        };
        let all = self.counters.iter().map(|(name, offset)| (name.clone(), value(*offset)));
        all.filter(|(_, value)| *value != 0).collect()
    }
}
