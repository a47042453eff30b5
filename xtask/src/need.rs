//! What lanes need of the machine: how to tell that it is missing, and the one line that gets it.

use crate::linux;
use crate::workspace::Workspace;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// Something a machine has or lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// `cargo fmt`.
    Rustfmt,
    /// `cargo clippy`.
    Clippy,
    /// `cargo deny`.
    CargoDeny,
    /// A C compiler.
    Cc,
    /// `mke2fs`, for ext4 images from folders.
    Mke2fs,
    /// `valgrind`, for its instruction counts.
    Valgrind,
    /// The runner of the instruction counts, of exactly the version in Cargo.lock.
    GungraunRunner,
    /// Miri, in the nightly toolchain.
    Miri,
    /// `cargo fuzz`, and the nightly toolchain that it needs.
    CargoFuzz,
    /// The freestanding guest target.
    NoneTarget,
    /// The targets of the portable builds.
    PortableTargets,
    /// `/dev/kvm`, with the right to open it.
    Kvm,
    /// QEMU for x86-64.
    Qemu,
    /// A static busybox.
    Busybox,
    /// What takes Debian packages apart and builds modules.
    KernelTools,
    /// The kernel's critics: sparse, what checkpatch runs on, and what applies patches.
    KernelCritics,
    /// Debian's kernels and their headers, in the cache or within reach.
    DebianKernels,
    /// Room for them.
    DiskSpace,
}

/// How a missing thing is got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Debian packages; all that are missing go into one line.
    Apt(&'static str),
    /// A command.
    Line(String),
    /// Only the machine's owner can; what to do is part of the reason.
    ByHand,
}

/// What gets `cargo fuzz`.
pub const CARGO_FUZZ_LINE: &str =
    "rustup toolchain install nightly --profile minimal && cargo install cargo-fuzz --locked --version 0.13.2";
const CARGO_DENY: &str = "0.20.2";
const NONE_TARGET: &str = "x86_64-unknown-none";
/// Two other 64-bit architectures, and one of 32 bits that has atomics of 64.
const PORTABLE_TARGETS: [&str; 3] = ["aarch64-unknown-none", "riscv64gc-unknown-none-elf", "i686-unknown-linux-gnu"];

impl Need {
    /// As `--require` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rustfmt => "rustfmt",
            Self::Clippy => "clippy",
            Self::CargoDeny => "cargo-deny",
            Self::Cc => "cc",
            Self::Mke2fs => "mke2fs",
            Self::Valgrind => "valgrind",
            Self::GungraunRunner => "gungraun-runner",
            Self::Miri => "miri",
            Self::CargoFuzz => "cargo-fuzz",
            Self::NoneTarget => NONE_TARGET,
            Self::PortableTargets => "portable-targets",
            Self::Kvm => "kvm",
            Self::Qemu => "qemu-system-x86_64",
            Self::Busybox => "busybox",
            Self::KernelTools => "kernel-tools",
            Self::KernelCritics => "kernel-critics",
            Self::DebianKernels => "debian-kernels",
            Self::DiskSpace => "disk-space",
        }
    }

    /// Why it cannot be used here; `None` if it can.
    pub fn missing(self, workspace: &Workspace) -> Option<String> {
        match self {
            Self::Rustfmt => lacks(answers("cargo", &["fmt", "--version"]), "no rustfmt in this toolchain"),
            Self::Clippy => lacks(answers("cargo", &["clippy", "--version"]), "no clippy in this toolchain"),
            Self::CargoDeny => lacks(answers("cargo", &["deny", "--version"]), "no cargo-deny"),
            Self::Cc | Self::Mke2fs | Self::Valgrind | Self::Qemu | Self::Busybox => {
                lacks(on_path(self.name()), &format!("no {}", self.name()))
            }
            Self::GungraunRunner => gungraun_missing(workspace),
            Self::Miri => miri_missing(),
            Self::CargoFuzz => {
                lacks(answers("cargo", &["+nightly", "fuzz", "--version"]), "no cargo-fuzz, or no nightly")
            }
            Self::NoneTarget => target_missing(NONE_TARGET),
            Self::PortableTargets => PORTABLE_TARGETS.into_iter().find_map(target_missing),
            Self::Kvm => kvm_missing(),
            Self::KernelTools => linux::tools_missing(on_path),
            Self::KernelCritics => {
                ["sparse", "perl", "patch"].into_iter().find_map(|tool| lacks(on_path(tool), &format!("no {tool}")))
            }
            Self::DebianKernels => linux::kernels_missing(),
            Self::DiskSpace => linux::space_missing(),
        }
    }

    /// How to get it.
    pub fn remedy(self, workspace: &Workspace) -> Remedy {
        match self {
            Self::Rustfmt => Remedy::Line("rustup component add rustfmt".into()),
            Self::Clippy => Remedy::Line("rustup component add clippy".into()),
            Self::CargoDeny => Remedy::Line(format!("cargo install cargo-deny --locked --version {CARGO_DENY}")),
            Self::Cc => Remedy::Apt("gcc libc6-dev"),
            Self::Mke2fs => Remedy::Apt("e2fsprogs"),
            Self::Valgrind => Remedy::Apt("valgrind libc6-dbg"),
            Self::GungraunRunner => workspace.locked_version("gungraun").map_or(Remedy::ByHand, |version| {
                Remedy::Line(format!("cargo install gungraun-runner --locked --version {version}"))
            }),
            Self::Miri => miri_remedy(),
            Self::CargoFuzz => Remedy::Line(CARGO_FUZZ_LINE.into()),
            Self::NoneTarget => Remedy::Line(format!("rustup target add {NONE_TARGET}")),
            Self::PortableTargets => Remedy::Line(format!("rustup target add {}", PORTABLE_TARGETS.join(" "))),
            Self::Qemu => Remedy::Apt("qemu-system-x86"),
            Self::Busybox => Remedy::Apt("busybox-static"),
            Self::KernelTools => {
                Remedy::Apt("gcc-12 libc6-dev make xz-utils binutils libelf1 util-linux e2fsprogs fio ethtool iperf3")
            }
            Self::KernelCritics => Remedy::Apt("sparse perl patch"),
            Self::DebianKernels => linux::kernels_remedy(),
            Self::Kvm | Self::DiskSpace => Remedy::ByHand,
        }
    }
}

/// Answers of the probes, each asked once.
#[derive(Default)]
pub struct Probes(BTreeMap<Need, Option<String>>);

impl Probes {
    /// Why `need` is not met, if it is not.
    pub fn missing(&mut self, need: Need, workspace: &Workspace) -> Option<String> {
        self.0.entry(need).or_insert_with(|| need.missing(workspace)).clone()
    }

    /// Forgets all answers: something was installed.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    #[cfg(test)]
    pub fn with(answers: impl IntoIterator<Item = (Need, Option<String>)>) -> Self {
        Self(answers.into_iter().collect())
    }
}

fn lacks(present: bool, why: &str) -> Option<String> {
    (!present).then(|| why.into())
}

/// Standard output of a program that ended well.
fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn answers(program: &str, arguments: &[&str]) -> bool {
    answer(program, arguments).is_some()
}

/// Debian keeps mke2fs where only root's PATH looks.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).any(|folder| folder.join(program).is_file())
}

fn gungraun_missing(workspace: &Workspace) -> Option<String> {
    let Some(wanted) = workspace.locked_version("gungraun") else {
        return Some("Cargo.lock has no gungraun".into());
    };
    match answer("gungraun-runner", &["--version"]) {
        None => Some("no gungraun-runner".into()),
        Some(found) if found.split_whitespace().any(|word| word == wanted) => None,
        Some(found) => Some(format!("{} is not the {wanted} of Cargo.lock", found.trim())),
    }
}

fn nightly_components() -> Option<String> {
    answer("rustup", &["component", "list", "--toolchain", "nightly", "--installed"])
}

fn miri_missing() -> Option<String> {
    match nightly_components() {
        None => Some("no nightly toolchain".into()),
        Some(list) if !list.contains("miri") => Some("no miri in the nightly toolchain".into()),
        Some(list) if !list.contains("rust-src") => Some("no rust-src in the nightly toolchain".into()),
        Some(_) => None,
    }
}

fn miri_remedy() -> Remedy {
    Remedy::Line(match nightly_components() {
        None => "rustup toolchain install nightly --profile minimal --component miri --component rust-src".into(),
        Some(_) => "rustup component add miri rust-src --toolchain nightly".into(),
    })
}

fn target_missing(target: &str) -> Option<String> {
    let library = answer("rustc", &["--print", "target-libdir", "--target", target]).unwrap_or_default();
    lacks(PathBuf::from(library.trim()).is_dir(), &format!("target {target} is not installed"))
}

fn kvm_missing() -> Option<String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Some("the KVM machine is for x86-64 Linux".into());
    }
    let error = std::fs::File::options().read(true).write(true).open("/dev/kvm").err()?;
    Some(match error.kind() {
        std::io::ErrorKind::NotFound => {
            "no /dev/kvm (turn on virtualization in the firmware; `modprobe kvm_amd` or `kvm_intel`)".into()
        }
        std::io::ErrorKind::PermissionDenied => {
            "no right to open /dev/kvm (`sudo usermod -aG kvm $USER`, then log in again)".into()
        }
        _ => format!("/dev/kvm cannot be opened: {error}"),
    })
}
