//! Guest images, built once per test process in a target folder of their own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Runs at both privilege levels.
const FREESTANDING: &str = "x86_64-unknown-none";
/// Runs at CPL 3 only.
const STATIC: &str = "x86_64-unknown-linux-gnu";

/// Whether images for CPL 0 can be built: the freestanding target is installed.
#[must_use]
pub fn freestanding() -> bool {
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
