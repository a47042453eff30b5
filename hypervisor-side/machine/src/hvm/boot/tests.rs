use super::*;
use std::io::Write;
use std::path::PathBuf;

const MEMORY: u64 = 64 << 20;

/// A bzImage that is all header: one sector of setup, `kernel` behind it.
fn bzimage(kernel: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 1024];
    set(&mut image, 0x1f1, &[1]);
    set(&mut image, HEADER_LENGTH, &[0x6a]);
    set(&mut image, MAGIC, b"HdrS");
    set(&mut image, VERSION, &0x020f_u16.to_le_bytes());
    set(&mut image, 0x211, &[1]);
    set(&mut image, RAMDISK_MOST, &0x7fff_ffff_u32.to_le_bytes());
    set(&mut image, LOAD_FLAGS, &1_u16.to_le_bytes());
    set(&mut image, CMDLINE_MOST, &2047_u32.to_le_bytes());
    set(&mut image, PREFERRED, &0x100_0000_u64.to_le_bytes());
    set(&mut image, INIT_BYTES, &0x20_0000_u32.to_le_bytes());
    image.extend_from_slice(kernel);
    image
}

fn file(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    File::create(&path).unwrap().write_all(bytes).unwrap();
    path
}

fn load_it(
    kernel: &[u8],
    initramfs: Option<&[u8]>,
    cmdline: &str,
) -> Result<(Entry, std::sync::Arc<GuestRam>), String> {
    let folder = tempfile::tempdir().unwrap();
    let images = Hvm {
        kernel: file(&folder, "kernel", kernel),
        initramfs: initramfs.map(|bytes| file(&folder, "initramfs", bytes)),
        ..Hvm::default()
    };
    let memory = Memory::new(MEMORY, 0);
    let ram = GuestRam::scattered(&memory.ram, None).unwrap();
    load(&ram, &memory, &images, cmdline).map(|entry| (entry, ram)).map_err(|error| error.to_string())
}

fn bytes<const N: usize>(ram: &GuestRam, at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    ram.part(GuestAddr(at), N as u64).unwrap().read(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn bzimage_lies_where_its_entry_is_and_finds_its_ramdisk() {
    let (entry, ram) = load_it(&bzimage(b"kernel"), Some(b"initramfs"), "quiet").unwrap();
    assert_eq!(entry, Entry::Linux64 { rip: 0x10_0200 });
    assert_eq!(bytes(&ram, layout::KERNEL), *b"kernel");
    let page: [u8; PAGE_SIZE] = bytes(&ram, layout::ZERO_PAGE);
    let at = get32(&page, RAMDISK_ADDRESS);
    assert_eq!((get32(&page, RAMDISK_BYTES), bytes(&ram, at.into())), (9, *b"initramfs"));
    assert!(u64::from(at) + 9 <= MEMORY);
    assert_eq!(bytes(&ram, get32(&page, CMDLINE_ADDRESS).into()), *b"quiet\0");
    assert_eq!((page[E820_COUNT], get32(&page, E820 + 8)), (3, layout::LOW_END as u32));
    assert_eq!(page[MAGIC..MAGIC + 4], *b"HdrS");
}

#[test]
fn images_that_cannot_boot_are_named_with_the_reason() {
    let changed = |at: usize, bytes: &[u8]| {
        let mut image = bzimage(b"kernel");
        set(&mut image, at, bytes);
        image
    };
    let long = "x".repeat(3000);
    let elf = [b"\x7fELF".to_vec(), vec![0; 2000]].concat();
    for (image, initramfs, cmdline, why) in [
        (b"MZ".to_vec(), None, "", "neither a bzImage nor an ELF"),
        (Vec::new(), None, "", "neither"),
        (changed(MAGIC, b"XXXX"), None, "", "neither"),
        (changed(VERSION, &[0, 2]), None, "", "64-bit"),
        (changed(LOAD_FLAGS, &[0, 0]), None, "", "64-bit"),
        (changed(INIT_BYTES, &[0xff; 4]), None, "", "unpack itself"),
        (changed(PREFERRED, &[0xff; 8]), None, "", "unpack itself"),
        (bzimage(b"kernel"), None, long.as_str(), "command line of at most 2047"),
        (bzimage(b"kernel"), Some(vec![0; 50 << 20]), "", "do not fit behind the kernel"),
        (changed(RAMDISK_MOST, &[0; 4]), Some(vec![1]), "", "do not fit behind the kernel"),
        (elf, None, "", "image"),
    ] {
        let error = load_it(&image, initramfs.as_deref(), cmdline).map(|loaded| loaded.0).expect_err(why);
        assert!(error.contains(why), "{why}: {error}");
    }
}
