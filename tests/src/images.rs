//! Guest images, built once per test process in a target folder of their own, or given by `$PVKIT_GUEST_IMAGES` where
//! there is no cargo: a folder with images for both privilege levels.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const GIVEN: &str = "PVKIT_GUEST_IMAGES";
/// Runs at both privilege levels.
const FREESTANDING: &str = "x86_64-unknown-none";
/// Runs at CPL 3 only.
const STATIC: &str = "x86_64-unknown-linux-gnu";

/// Whether there are images for CPL 0: the freestanding target is installed, or they are given.
#[must_use]
pub fn freestanding() -> bool {
    if std::env::var_os(GIVEN).is_some() {
        return true;
    }
    let rustc = Command::new("rustc").args(["--print", "target-libdir", "--target", FREESTANDING]).output();
    rustc.is_ok_and(|answer| Path::new(String::from_utf8_lossy(&answer.stdout).trim()).is_dir())
}

/// The tiny self-test image.
#[must_use]
pub fn tiny() -> PathBuf {
    folder().join("tiny")
}

/// The demo application's image.
#[must_use]
pub fn unikernel() -> PathBuf {
    folder().join("unikernel")
}

fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build)
}

/// # Panics
/// If the images cannot be built: every test that needs one has then failed.
fn build() -> PathBuf {
    if let Some(folder) = std::env::var_os(GIVEN) {
        return folder.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = if freestanding() { FREESTANDING } else { STATIC };
    let folder = root.join("target/guest");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "unikernel-image", "--profile", "guest", "--target", target])
        .arg("--target-dir")
        .arg(&folder)
        .current_dir(&root)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "the guest images could not be built");
    folder.join(target).join("guest")
}
