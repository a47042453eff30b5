//! The window of a guest's memory that a daemon maps.
//!
//! *Owners.* The monitor makes the memory file and seals it; each side has a mapping of its own. Whoever holds a
//! [`SharedBytes`] of it also holds an `Arc` of the [`Window`].
//!
//! *Invariants.* The file can neither shrink nor grow, so no access to the mapping can fault.

use pvkit_abi::PAGE_SIZE;
use pvkit_shared_memory::SharedBytes;
use rustix::fs::SealFlags;
use rustix::io::Errno;
use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use vm_memory::{FileOffset, MmapRegion};

/// Largest window that is mapped: 16 GiB.
pub const MAX_WINDOW: u64 = 16 << 30;

/// Why a file is no window.
#[derive(Debug)]
pub enum WindowError {
    /// It could shrink or grow while it is mapped, or get more seals.
    NotSealed,
    /// Not a whole number of pages, none at all, more than 16 GiB, or more than the file has.
    Length(u64),
    /// What the system says.
    System(std::io::Error),
}

impl fmt::Display for WindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSealed => f.write_str("the window is not sealed against shrinking, growing and further seals"),
            Self::Length(length) => {
                write!(f, "a window of {length} bytes: whole pages of the file are needed, at most 16 GiB")
            }
            Self::System(error) => write!(f, "the window cannot be mapped: {error}"),
        }
    }
}

impl std::error::Error for WindowError {}

impl From<Errno> for WindowError {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
    }
}

/// A mapped window.
#[derive(Debug)]
pub struct Window(MmapRegion);

impl Window {
    /// Maps the first `length` bytes of `file`.
    ///
    /// # Errors
    /// A file that is not sealed, a length that it does not have, or what the system says.
    pub fn map(file: OwnedFd, length: u64) -> Result<Arc<Self>, WindowError> {
        let needed = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        // A file that takes no seals at all answers with an error.
        let seals = rustix::fs::fcntl_get_seals(&file).map_err(|_| WindowError::NotSealed)?;
        if !seals.contains(needed) {
            return Err(WindowError::NotSealed);
        }
        let size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
        if length == 0 || length > size.min(MAX_WINDOW) || !length.is_multiple_of(PAGE_SIZE as u64) {
            return Err(WindowError::Length(length));
        }
        let bytes = usize::try_from(length).map_err(|_| WindowError::Length(length))?;
        let region = MmapRegion::from_file(FileOffset::new(File::from(file), 0), bytes);
        region.map(|region| Arc::new(Self(region))).map_err(|error| WindowError::System(std::io::Error::other(error)))
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.size() as u64
    }

    /// Never: a window has at least one page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.size() == 0
    }

    /// A part of it; `None` if it does not lie inside. The caller keeps the `Arc` for as long as it holds the part.
    #[must_use]
    pub fn part(&self, offset: u64, length: u64) -> Option<SharedBytes> {
        self.all().part(usize::try_from(offset).ok()?, usize::try_from(length).ok()?).ok()
    }

    #[allow(unsafe_code, reason = "KVM/mmap: one of the five places named in SAFETY.md")]
    fn all(&self) -> SharedBytes {
        let start = NonNull::new(self.0.as_ptr()).unwrap_or(NonNull::dangling());
        // SAFETY: the region maps `size` bytes readable and writable until `self` is dropped, of a file that cannot shrink
        // (checked in `map`), and every holder of a part keeps an `Arc` (see the module's text). This program touches the
        // mapping only through `SharedBytes`; the guest and the other process do as they like.
        unsafe { SharedBytes::from_raw(start, self.0.size()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::MemfdFlags;

    fn memory(length: u64, seals: SealFlags) -> OwnedFd {
        let fd = rustix::fs::memfd_create("window", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&fd, length).unwrap();
        rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
        fd
    }

    #[test]
    fn only_what_cannot_change_its_size_is_mapped() {
        let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        assert_eq!(Window::map(memory(8192, all), 8192).unwrap().len(), 8192);
        for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL] {
            let error = Window::map(memory(8192, all.difference(missing)), 8192).unwrap_err();
            assert!(matches!(error, WindowError::NotSealed), "{missing:?}: {error}");
        }
        let plain = OwnedFd::from(tempfile::tempfile().unwrap());
        assert!(matches!(Window::map(plain, 4096), Err(WindowError::NotSealed)));
        for length in [0, 1, 4097, 12288, u64::MAX] {
            assert!(matches!(Window::map(memory(8192, all), length), Err(WindowError::Length(_))), "{length}");
        }
    }

    #[test]
    fn nothing_outside_is_named() {
        let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        let window = Window::map(memory(8192, all), 4096).unwrap();
        for (offset, length, inside) in [
            (0, 4096, true),
            (4095, 1, true),
            (4096, 1, false),
            (4096, 0, true),
            (1, 4096, false),
            (u64::MAX, 1, false),
        ] {
            assert_eq!(window.part(offset, length).is_some(), inside, "{length} at {offset}");
        }
    }
}
