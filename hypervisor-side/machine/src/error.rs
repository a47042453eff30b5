//! Why a guest could not be started, each with its remedy.

use pvkit_abi::bus::Class;
use pvkit_abi::version::{CURRENT, Group};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why `/dev/kvm` cannot be used.
#[derive(Debug)]
pub enum KvmProblem {
    /// There is no `/dev/kvm`.
    Missing,
    /// It may not be opened.
    Permission,
    /// Opening it failed otherwise.
    Open(io::Error),
    /// It speaks an API version other than 12.
    ApiVersion(i32),
    /// It lacks a capability.
    Capability(&'static str),
    /// No virtual machine can be made.
    Create(io::Error),
}

impl fmt::Display for KvmProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(
                "/dev/kvm does not exist; load the module for this processor (modprobe kvm_intel or kvm_amd) and enable \
                 virtualization in the firmware, or, inside a virtual machine, nested virtualization on its host",
            ),
            Self::Permission => f.write_str(
                "no permission to open /dev/kvm; join its group (usermod -aG kvm $USER, then log in again) or ask the \
                 administrator for access",
            ),
            Self::Open(error) => write!(f, "/dev/kvm cannot be opened: {error}"),
            Self::ApiVersion(found) => write!(f, "/dev/kvm speaks API version {found}, not 12; update the kernel"),
            Self::Capability(name) => write!(f, "this KVM lacks {name}; update the host's kernel"),
            Self::Create(error) => write!(
                f,
                "KVM cannot create a virtual machine: {error}; another hypervisor may be holding the processor's \
                 virtualization"
            ),
        }
    }
}

impl std::error::Error for KvmProblem {}

/// What is wrong with an image file.
#[derive(Debug)]
pub enum ImageError {
    Read(io::Error),
    TooLarge { size: u64, limit: u64 },
    NotElf,
    WrongMachine,
    NotStatic,
    Malformed(&'static str),
    NoNote,
    NewerNote,
    UnknownFlags(u32),
    NotAFile,
    TooHigh { end: u64, limit: u64 },
    TooLow { address: u64, least: u64 },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "{error}"),
            Self::TooLarge { size, limit } => write!(f, "{size} bytes; at most {limit} are read"),
            Self::NotElf => f.write_str("not a 64-bit little-endian ELF file; --kernel takes a pvkit guest image"),
            Self::WrongMachine => f.write_str("not built for x86-64; rebuild it for the target x86_64-unknown-none"),
            Self::NotStatic => {
                f.write_str("not a fixed-address executable; link it with -C relocation-model=static (ELF type EXEC)")
            }
            Self::Malformed(what) => write!(f, "malformed ELF file: {what}; link it again"),
            Self::NoNote => f.write_str(
                "no pvkit note: this is not a pvkit guest image; put a `GuestNote` in a note section named \
                 .note.pvkit (see abi/README.md), or start the kernel with a hypervisor that it was made for",
            ),
            Self::NewerNote => f.write_str("its pvkit note says more than this host knows; update pvkit"),
            Self::UnknownFlags(bits) => {
                write!(f, "its pvkit note has unknown flags {bits:#x}; update pvkit, or rebuild the image")
            }
            Self::NotAFile => f.write_str("not a regular file; --kernel takes a pvkit guest image"),
            Self::TooHigh { end, limit } => {
                write!(f, "a segment ends at {end:#x}; link it lower: images must end below {limit:#x}")
            }
            Self::TooLow { address, least } => {
                write!(f, "a segment at {address:#x}; images are linked at {least:#x} or higher")
            }
        }
    }
}

impl std::error::Error for ImageError {}

/// Why a guest could not be started.
#[derive(Debug)]
pub enum MachineError {
    /// KVM cannot be used.
    Kvm(KvmProblem),
    /// The image file is not what it should be.
    Image {
        /// Which file.
        path: PathBuf,
        /// What is wrong; its text has the remedy.
        error: String,
    },
    /// The image needs a hypercall group that this host does not offer at that version.
    Group {
        /// Which group.
        group: Group,
        /// Generation and least minor version that the image needs.
        needs: (u16, u16),
        /// What the host has, in words.
        host: String,
    },
    /// The image needs features that this host's group does not offer.
    Features {
        /// Which group.
        group: Group,
        /// The feature bits that are lacking.
        missing: u64,
    },
    /// The image cannot do without devices that it was not given.
    Devices {
        /// What kind.
        class: Class,
        /// How many it needs.
        needs: u16,
        /// How many it was given.
        given: u16,
    },
    /// The image drives a device by a version of its protocol that this host does not speak.
    Protocol {
        /// What kind.
        class: Class,
        /// Generation and least minor version that the image needs.
        needs: (u16, u16),
    },
    /// The boot stack or the command line is too large.
    BootRegion {
        /// Bytes of the stack that the image's note asks for.
        stack: u32,
        /// Bytes of the command line.
        cmdline: usize,
    },
    /// The image cannot run at the privilege level that was asked for.
    Privilege {
        /// Level asked for.
        asked: u8,
        /// Levels that the image's note allows.
        allowed: &'static str,
    },
    /// Not enough memory for the image.
    TooLittleMemory {
        /// Bytes given.
        memory: u64,
        /// Least bytes.
        least: u64,
    },
    /// The memory size is not usable.
    MemorySize {
        /// Bytes given.
        memory: u64,
        /// Why.
        why: String,
    },
    /// A number of vCPUs that is not usable.
    Cpus {
        /// Number given.
        cpus: u32,
        /// Greatest number.
        most: u32,
    },
    /// The host's system refused something.
    Host {
        /// What was tried.
        what: &'static str,
        /// What it said.
        error: io::Error,
    },
}

impl MachineError {
    /// Whether the person who started the guest can mend it by starting it differently.
    #[must_use]
    pub const fn is_user_mistake(&self) -> bool {
        !matches!(self, Self::Host { .. })
    }

    pub(crate) fn host(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::Host { what, error }
    }
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        match self {
            Self::Kvm(problem) => write!(f, "{problem}; or use --machine in-process, which needs no KVM"),
            Self::Image { path, error } => write!(f, "guest image {}: {error}", path.display()),
            Self::Group { group, needs: (major, minor), host } => write!(
                f,
                "the image needs hypercall group {group:?} {major}.{minor}, this host has {host}; update pvkit or rebuild \
                 the image against an older ABI"
            ),
            Self::Features { group, missing } => {
                write!(f, "the image needs features {missing:#x} of hypercall group {group:?}; update pvkit")
            }
            Self::Devices { class, needs, given } => write!(
                f,
                "the image needs {needs} device(s) of kind {class:?} and was given {given}; add them, for example with \
                 --disk or --console"
            ),
            Self::Protocol { class, needs: (major, minor) } => write!(
                f,
                "the image drives {class:?} devices by protocol {major}.{minor}, this host speaks {CURRENT}; update pvkit or \
                 rebuild the image against this ABI"
            ),
            Self::BootRegion { stack, cmdline } => write!(
                f,
                "a boot stack of {stack} bytes and a command line of {cmdline} bytes do not fit; at most 16 MiB and 1 MiB: \
                 shorten --cmdline, or rebuild the image with a smaller stack in its note"
            ),
            Self::Privilege { asked, allowed } => write!(
                f,
                "the image cannot run at CPL {asked}; its note allows {allowed}: leave --cpl out, or rebuild the image (CPL \
                 0 needs the target x86_64-unknown-none)"
            ),
            Self::TooLittleMemory { memory, least } => {
                write!(
                    f,
                    "{} MiB of memory are too few for this image; give at least {} MiB",
                    mib(*memory),
                    mib(*least)
                )
            }
            Self::MemorySize { memory, why } => write!(f, "memory of {memory} bytes: {why}"),
            Self::Cpus { cpus, most: 1 } => {
                write!(f, "{cpus} vCPUs: the in-process machine has one; leave --cpus out")
            }
            Self::Cpus { cpus, most } => write!(f, "{cpus} vCPUs; give 1 to {most}"),
            Self::Host { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for MachineError {}
