//! Files that are loaded: guest images, stock kernels.

use crate::input::Input;
use pvkit_abi::entry::IMAGE_BASE_MIN;
use std::io::Write;
use tempfile::NamedTempFile;

/// Where a bzImage goes; what lies below is the loader's.
const KERNEL: u64 = 0x10_0000;

/// Segments ascend, do not overlap and hold what the file has for them.
pub fn guest_image(data: &[u8]) {
    let Some(segments) = pvkit_machine::fuzzing::guest_image(data) else { return };
    assert!(segments.len() <= 32);
    let mut last = IMAGE_BASE_MIN;
    for (address, in_file, in_memory) in segments {
        assert!(address >= last && in_file <= in_memory && in_file <= data.len() as u64);
        last = address.checked_add(in_memory).expect("inside the address space");
    }
}

/// A kernel is loaded, and its initramfs whole behind it; or it is refused, whatever its headers say.
pub fn stock_kernel(data: &[u8]) {
    let mut input = Input::new(data);
    let (looks, tail) = (input.below(3), usize::from(input.byte()) * 64);
    let mut bytes = input.rest().to_vec();
    if looks == 1 {
        bytes.resize(bytes.len().max(0x290) + tail, 0);
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
    } else if looks == 2 && bytes.len() >= 20 {
        bytes[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0");
    }
    let initramfs = vec![0xa5; tail + 1];
    let [kernel, beside] = [&bytes, &initramfs].map(|bytes| file(bytes));
    if let Some((place, found)) = pvkit_machine::fuzzing::stock_kernel(kernel.path(), beside.path(), "console=ttyS0") {
        assert!(found == initramfs, "the initramfs at {place:#x} is not what it was");
        assert!(place >= KERNEL && place % 4096 == 0, "{place:#x} is not behind the kernel");
    }
}

fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("room for a small file");
    file
}
