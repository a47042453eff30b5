//! QEMU as a part of the payload: the program, its shared objects, the little firmware that a guest without a screen needs.

use super::tree::Tree;
use std::path::{Path, PathBuf};

const PROGRAM: &str = "/usr/bin/qemu-system-x86_64";
/// From the packages seabios and qemu-system-data.
const FIRMWARE: [&str; 5] = [
    "/usr/share/seabios/bios-256k.bin",
    "/usr/share/qemu/kvmvapic.bin",
    "/usr/share/qemu/linuxboot_dma.bin",
    "/usr/share/qemu/multiboot_dma.bin",
    "/usr/share/qemu/pvh.bin",
];

/// Adds all of it at the places of this machine.
pub fn add(tree: &mut Tree) -> Result<(), String> {
    tree.program(PROGRAM, Path::new(PROGRAM))?;
    for file in FIRMWARE.map(PathBuf::from).into_iter().filter(|file| file.is_file()) {
        tree.copy(&file, &file);
    }
    Ok(())
}
