//! Builds the guest image, at run time, in a target folder of its own.

use super::leash::{Leash, LeashError};
use super::say::say;
use super::workshop::Workshop;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// The freestanding target: the image then runs at CPL 3 and CPL 0.
const FREESTANDING: &str = "x86_64-unknown-none";
/// The host's own target: a static image, which uses SSE and a red zone and so is for CPL 3 only.
const STATIC: &str = "x86_64-unknown-linux-gnu";
/// Time for a cold build on a slow machine.
const BUILD_PATIENCE: Duration = Duration::from_secs(600);
/// Time for one download of a target's library.
const INSTALL_PATIENCE: Duration = Duration::from_secs(60);

/// A built image.
#[derive(Debug)]
pub struct GuestImage {
    /// The ELF file.
    pub path: PathBuf,
    /// What it was built for, in words.
    pub target: String,
}

/// Why there is no image.
#[derive(Debug)]
pub enum BuildError {
    /// The source tree is not where this program was built.
    NoSources,
    /// The image must run at CPL 0, and only a static one can be built.
    StaticIsCpl3,
    /// Cargo could not be run, or was too slow.
    Leash(LeashError),
    /// Cargo said no.
    Cargo(ExitStatus),
    /// The demo's folder cannot be used.
    Folder(io::Error),
}

impl BuildError {
    /// Whether another command line would do.
    #[must_use]
    pub const fn is_user_mistake(&self) -> bool {
        matches!(self, Self::NoSources | Self::StaticIsCpl3)
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSources => write!(
                f,
                "the sources of the guest are gone from {}; give an image with --kernel, or use --machine in-process",
                env!("CARGO_MANIFEST_DIR")
            ),
            Self::StaticIsCpl3 => write!(
                f,
                "the target {FREESTANDING} is not installed, and a static image runs at CPL 3 only; run `rustup target \
                 add {FREESTANDING}` or leave out --cpl 0"
            ),
            Self::Folder(_) => write!(f, "the demo's folder in the target folder cannot be used"),
            Self::Leash(_) => write!(f, "building the guest image did not end well"),
            Self::Cargo(status) => {
                write!(f, "cargo could not build the guest image ({status}); its messages are above")
            }
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Leash(error) => Some(error),
            Self::Folder(error) => Some(error),
            _ => None,
        }
    }
}

/// Builds the image for the best target there is.
///
/// # Errors
/// No target will do, or the build fails.
pub fn build(workshop: &Workshop, leash: &Leash, cpl: Option<u8>, offline: bool) -> Result<GuestImage, BuildError> {
    let root = workshop.root().ok_or(BuildError::NoSources)?;
    let has = || is_installed(root, FREESTANDING);
    let freestanding = has() || (!offline && install(root, leash)? && has());
    let (target, words) = match (freestanding, cpl) {
        (true, _) => (FREESTANDING, format!("{FREESTANDING} (runs at CPL 3 and CPL 0)")),
        (false, Some(0)) => return Err(BuildError::StaticIsCpl3),
        (false, _) => (STATIC, format!("{STATIC}, static (runs at CPL 3 only)")),
    };
    say(format_args!("guest image: building for {words}"));
    cargo_build(workshop, root, leash, target)?;
    let path = workshop.guest_target().join(target).join("guest/unikernel");
    Ok(GuestImage { path, target: words })
}

/// What an image can be built for: target, whether it is installed, what to do if not. One of them is enough.
#[must_use]
pub fn targets() -> Vec<(&'static str, bool, String)> {
    let root = super::workshop::source_root().unwrap_or_else(|| ".".into());
    let instead = "the demo then builds a static image, for CPL 3 only";
    let of = |target, instead: &str| {
        let remedy = format!("rustup target add {target}; {instead}");
        (target, is_installed(&root, target), remedy)
    };
    vec![of(FREESTANDING, instead), of(STATIC, "images for the host's own kind cannot be built then")]
}

/// Whether the compiler has a target's library; asked of the compiler, not of rustup.
fn is_installed(root: &Path, target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let answer = Command::new(rustc)
        .current_dir(root)
        .args(["--print", "target-libdir", "--target", target])
        .stdin(Stdio::null())
        .output();
    answer.is_ok_and(|answer| {
        let folder = String::from_utf8_lossy(&answer.stdout);
        answer.status.success() && Path::new(folder.trim()).is_dir()
    })
}

/// The one announced attempt to install it.
fn install(root: &Path, leash: &Leash) -> Result<bool, BuildError> {
    say(format_args!("guest image: {FREESTANDING} is not installed; trying once: rustup target add {FREESTANDING}"));
    let tried = leash.run_guarded("rustup", INSTALL_PATIENCE, |command| {
        command.args(["target", "add", FREESTANDING]).current_dir(root).stdin(Stdio::null());
    });
    match tried {
        Ok(status) => Ok(status.success()),
        Err(LeashError::Cut) => Err(BuildError::Leash(LeashError::Cut)),
        Err(_) => Ok(false),
    }
}

fn cargo_build(workshop: &Workshop, root: &Path, leash: &Leash, target: &str) -> Result<(), BuildError> {
    let lock = workshop.lock().map_err(BuildError::Folder)?;
    let scratch = workshop.scratch(&lock).map_err(BuildError::Folder)?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let status = leash.run_guarded(&cargo, BUILD_PATIENCE, |command| {
        command
            .args(["build", "--package", "unikernel-image", "--profile", "guest", "--target", target, "--target-dir"])
            .arg(workshop.guest_target())
            .current_dir(root)
            .stdin(Stdio::null())
            // A compiler that is killed leaves its linker's folder behind: in here the next build finds it.
            .env("TMPDIR", &scratch);
    });
    let _ = std::fs::remove_dir_all(scratch);
    match status.map_err(BuildError::Leash)? {
        status if status.success() => Ok(()),
        status => Err(BuildError::Cargo(status)),
    }
}
