//! The guest's memory, named by guest-physical addresses: the main memory is this process's alone, the window a memory file that
//! another process may be given.
//!
//! *Owners.* [`GuestRam`] owns the mapping. Everything of the host that holds a [`SharedBytes`] of it also holds an `Arc`
//! of it. A guest in this process gets a [`SharedBytes`] that nothing ties to the run, so the memory of an in-process
//! machine is never unmapped: its pages are given back, its addresses are not.
//!
//! *Invariants.* Nothing outside an extent is ever touched, and nothing that is named reaches over the end of one. What
//! the guest names through
//! [`GuestMemory`] lies above the floor: the host's own tables are not memory to a guest's argument.

use pvkit_core::{Fault, GuestAddr, GuestMemory};
use pvkit_shared_memory::SharedBytes;
use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

/// A guest's memory.
#[derive(Debug)]
pub struct GuestRam {
    /// Bytes at the start of the main memory that no guest's argument may name.
    floor: AtomicU64,
    /// Ascending, not overlapping, at least one.
    extents: Vec<Extent>,
    /// Address of the main memory's first byte.
    base: u64,
    /// What backends in other processes may map.
    window: Option<Window>,
}

/// A window: the part of memory that has a file of its own.
#[derive(Debug)]
struct Window {
    base: u64,
    length: u64,
    file: File,
}

/// A range of guest-physical addresses that is mapped here.
#[derive(Debug)]
pub struct Extent {
    /// Guest-physical address of the first byte.
    pub base: u64,
    mapping: Arc<MmapRegion>,
}

impl Extent {
    /// Bytes.
    pub fn len(&self) -> u64 {
        self.mapping.size() as u64
    }

    /// Where it is mapped in this process.
    pub fn host_address(&self) -> u64 {
        self.mapping.as_ptr() as u64
    }

    /// All of it.
    #[allow(unsafe_code, reason = "KVM/mmap: one of the five places named in SAFETY.md")]
    fn all(&self) -> SharedBytes {
        let start = NonNull::new(self.mapping.as_ptr()).unwrap_or(NonNull::dangling());
        // SAFETY: the region maps `size` bytes readable and writable until `self` is dropped, and every holder of a
        // part keeps an `Arc` of the memory (see the module's text). This program touches guest memory only through
        // `SharedBytes`; the kernel and the guest do as they like.
        unsafe { SharedBytes::from_raw(start, self.mapping.size()) }
    }
}

impl GuestRam {
    /// Maps `length` zeroed bytes at guest-physical address 0.
    ///
    /// # Errors
    /// What the kernel says: usually that there is not so much memory.
    #[cfg(test)]
    pub fn new(length: u64) -> io::Result<Arc<Self>> {
        Self::scattered(&[(0, length)], None)
    }

    /// Maps `length` zeroed bytes, and as many more as the window has, whose guest-physical addresses are their addresses in
    /// this process: the in-process machine.
    ///
    /// # Errors
    /// What the kernel says: usually that there is not so much memory.
    pub fn identity(length: u64, window: u64) -> io::Result<Arc<Self>> {
        let own = |length| -> io::Result<(Extent, File)> {
            let file = memfd(length)?;
            let mapping = map(&file, length)?;
            Ok((Extent { base: mapping.as_ptr() as u64, mapping }, file))
        };
        let (main, _) = own(length)?;
        let base = main.base;
        if window == 0 {
            return Ok(Self::of(vec![main], base, None));
        }
        let (beside, file) = own(window)?;
        let window = Window { base: beside.base, length: window, file };
        Ok(Self::of(vec![main, beside], base, Some(window)))
    }

    /// Maps zeroed memory in several places, (guest-physical address, bytes) each: `main` for this process, where the kernel may
    /// use huge pages; the window in a memory file.
    ///
    /// # Errors
    /// As for [`GuestRam::identity`].
    pub fn scattered(main: &[(u64, u64)], window: Option<(u64, u64)>) -> io::Result<Arc<Self>> {
        let mut extents = Vec::new();
        for (base, length) in main {
            extents.push(Extent { base: *base, mapping: map_own(*length)? });
        }
        let window = match window {
            None => None,
            Some((base, length)) => {
                let file = memfd(length)?;
                extents.push(Extent { base, mapping: map(&file, length)? });
                Some(Window { base, length, file })
            }
        };
        Ok(Self::of(extents, main.first().map_or(0, |(base, _)| *base), window))
    }

    fn of(mut extents: Vec<Extent>, base: u64, window: Option<Window>) -> Arc<Self> {
        extents.sort_by_key(|extent| extent.base);
        Arc::new(Self { floor: AtomicU64::new(0), extents, base, window })
    }

    /// The window's address and bytes.
    pub fn window(&self) -> Option<(u64, u64)> {
        self.window.as_ref().map(|window| (window.base, window.length))
    }

    /// A descriptor of the window's file, for a backend in another process.
    ///
    /// # Errors
    /// There is no window, or no descriptor left.
    pub fn window_file(&self) -> io::Result<File> {
        self.window.as_ref().ok_or(io::ErrorKind::NotFound)?.file.try_clone()
    }

    /// Where an extent lies in the window; none if it does not lie in it.
    pub fn window_offset(&self, at: GuestAddr, length: u64) -> Option<u64> {
        let window = self.window.as_ref()?;
        let offset = at.0.checked_sub(window.base)?;
        (offset.checked_add(length)? <= window.length).then_some(offset)
    }

    /// Where memory is.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The same memory for a loader of kernel images; for the time of loading.
    ///
    /// # Errors
    /// None: the extents ascend and do not overlap.
    pub fn loader_view(&self) -> io::Result<GuestMemoryMmap> {
        let region = |extent: &Extent| {
            let region = GuestRegionMmap::with_arc(Arc::clone(&extent.mapping), GuestAddress(extent.base));
            region.map(Arc::new).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
        };
        let regions = self.extents.iter().map(region).collect::<io::Result<Vec<_>>>()?;
        GuestMemoryMmap::from_arc_regions(regions).map_err(io::Error::other)
    }

    /// Guest-physical address of the main memory's first byte.
    pub const fn base(&self) -> GuestAddr {
        GuestAddr(self.base)
    }

    /// From now on the first `bytes` of the main memory are the host's: no argument of the guest names them.
    pub fn set_floor(&self, bytes: u64) {
        self.floor.store(bytes, Ordering::Release);
    }

    /// Keeps the addresses mapped for ever, and gives the pages back to the system. For memory that a guest in this
    /// process may still name.
    pub fn retire(self: &Arc<Self>) {
        std::mem::forget(self.clone());
        for extent in &self.extents {
            if let Some(file) = extent.mapping.file_offset() {
                use rustix::fs::FallocateFlags;
                // Fails only where the system cannot punch holes; then the pages stay with this process.
                let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                let _ = rustix::fs::fallocate(file.file(), punch, file.start(), extent.len());
            }
        }
    }

    /// Writes what the host itself lays out, below the floor too.
    pub fn lay_out(&self, at: GuestAddr, bytes: &[u8]) -> Result<(), Fault> {
        self.part(at, bytes.len() as u64)?.write(0, bytes).map_err(|_| Fault)
    }

    /// Bytes, all extents together.
    pub fn len(&self) -> u64 {
        self.extents.iter().map(Extent::len).sum()
    }

    /// What a guest's argument names.
    fn named(&self, at: GuestAddr, length: u64) -> Result<SharedBytes, Fault> {
        // What lies before the main memory is far behind it here.
        if at.0.wrapping_sub(self.base) < self.floor.load(Ordering::Acquire) {
            return Err(Fault);
        }
        self.part(at, length)
    }

    /// Any part, the host's own included. It lies within one extent.
    pub fn part(&self, at: GuestAddr, length: u64) -> Result<SharedBytes, Fault> {
        // The last extent that does not begin behind the address; a handful of them.
        let extent = self.extents.iter().rev().find(|extent| extent.base <= at.0).ok_or(Fault)?;
        let offset = usize::try_from(at.0 - extent.base).map_err(|_| Fault)?;
        let length = usize::try_from(length).map_err(|_| Fault)?;
        extent.all().part(offset, length).map_err(|_| Fault)
    }
}

impl GuestMemory for GuestRam {
    fn read(&self, at: GuestAddr, into: &mut [u8]) -> Result<(), Fault> {
        self.named(at, into.len() as u64)?.read(0, into).map_err(|_| Fault)
    }

    fn write(&self, at: GuestAddr, from: &[u8]) -> Result<(), Fault> {
        self.named(at, from.len() as u64)?.write(0, from).map_err(|_| Fault)
    }

    fn shared(&self, at: GuestAddr, length: u64) -> Result<SharedBytes, Fault> {
        self.named(at, length)
    }
}

/// A memory file of `length` zeroed bytes, sealed: nobody can take pages away from under us, whoever gets the descriptor.
fn memfd(length: u64) -> io::Result<File> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let fd = rustix::fs::memfd_create("pvkit-guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&fd, length)?;
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(File::from(fd))
}

/// A memory file, mapped shared.
fn map(file: &File, length: u64) -> io::Result<Arc<MmapRegion>> {
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
    MmapRegion::from_file(FileOffset::new(file.try_clone()?, 0), length).map(Arc::new).map_err(io::Error::other)
}

/// Memory of this process's own, at a large page's boundary if that can be had: then the kernel backs it with large pages where it
/// is set to do so (`transparent_hugepage`), and a guest's first touches cost fewer exits.
fn map_own(length: u64) -> io::Result<Arc<MmapRegion>> {
    /// Bytes of a large page.
    const LARGE: usize = 2 << 20;
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
    let new = |bytes| MmapRegion::new(bytes).map_err(io::Error::other);
    let first = new(length)?;
    let beyond = first.as_ptr() as usize % LARGE;
    if beyond == 0 {
        return Ok(Arc::new(first));
    }
    // Linux places mappings downwards, each below the last: with this one in between the next one ends, and begins, at a boundary. Where
    // it does not, large pages are fewer and all else is the same.
    let between = new(beyond);
    let second = new(length)?;
    drop(between);
    Ok(Arc::new(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_over_the_end_of_an_extent() {
        let ram = GuestRam::scattered(&[(0, 0x2000), (0x10_0000, 0x2000)], Some((0x20_0000, 0x1000))).unwrap();
        assert_eq!((ram.len(), ram.extents().len()), (0x5000, 3));
        for (at, length, inside) in [
            (0, 0x2000, true),
            (0x1000, 0x2000, false),
            (0x2000, 1, false),
            (0xf_ffff, 2, false),
            (0x10_1fff, 1, true),
            (0x10_2000, 0, true),
            (0x20_0fff, 1, true),
            (0x20_1000, 1, false),
            (u64::MAX, 1, false),
            (1, u64::MAX, false),
        ] {
            assert_eq!(ram.part(GuestAddr(at), length).is_ok(), inside, "{length:#x} bytes at {at:#x}");
        }
    }

    #[test]
    fn the_window_is_the_file_that_is_handed_out() {
        let ram = GuestRam::scattered(&[(0, 0x2000)], Some((0x20_0000, 0x2000))).unwrap();
        for (at, length, offset) in [
            (0x20_0000, 0x2000, Some(0)),
            (0x20_1000, 0x1000, Some(0x1000)),
            (0x20_1000, 0x1001, None),
            (0x20_2000, 0, Some(0x2000)),
            (0x20_1fff, u64::MAX, None),
            (0, 0x1000, None),
        ] {
            assert_eq!(ram.window_offset(GuestAddr(at), length), offset, "{length:#x} bytes at {at:#x}");
        }
        use std::os::unix::fs::FileExt;
        ram.write(GuestAddr(0x20_0004), b"seen").unwrap();
        ram.write(GuestAddr(0), b"secret").unwrap();
        let mut all = vec![0; 0x2000];
        let file = ram.window_file().unwrap();
        file.read_exact_at(&mut all, 0).unwrap();
        assert!(all[4..].starts_with(b"seen") && !all.windows(6).any(|part| part == b"secret"));
        assert_eq!(file.metadata().unwrap().len(), 0x2000);
    }

    #[test]
    fn whoever_has_the_windows_file_can_neither_resize_nor_seal_it() {
        let ram = GuestRam::scattered(&[(0, 0x2000)], Some((0x20_0000, 0x2000))).unwrap();
        let given = ram.window_file().unwrap();
        // As another process would: by its own descriptor, opened anew.
        use std::os::fd::AsRawFd;
        let anew = File::options().read(true).write(true).open(format!("/proc/self/fd/{}", given.as_raw_fd())).unwrap();
        for file in [&given, &anew] {
            assert!(file.set_len(0x1000).is_err() && file.set_len(0x4000).is_err());
            assert!(rustix::fs::fcntl_add_seals(file, rustix::fs::SealFlags::WRITE).is_err());
        }
        assert_eq!(given.metadata().unwrap().len(), 0x2000);
    }

    #[test]
    fn extents_of_one_file_are_different_memory() {
        let ram = GuestRam::scattered(&[(0, 0x1000), (0x10_0000, 0x1000)], None).unwrap();
        ram.write(GuestAddr(0), b"low").unwrap();
        ram.write(GuestAddr(0x10_0000), b"top").unwrap();
        let read = |at| {
            let mut bytes = [0; 3];
            ram.read(GuestAddr(at), &mut bytes).map(|()| bytes)
        };
        assert_eq!((read(0), read(0x10_0000)), (Ok(*b"low"), Ok(*b"top")));
    }
}
