//! Starting a guest: what must be true before the first vCPU runs.

use crate::boot;
use crate::config::{Control, Device, MachineConfig, Program};
use crate::error::MachineError;
use crate::report::Report;
use pvkit_abi::bus::Class;
use pvkit_abi::discovery::{GuestNote, NoteFlags};
use pvkit_abi::version::{CURRENT, GroupOffer};
use std::sync::Arc;

/// Bytes of a large page: the unit of guest memory.
const LARGE: u64 = 2 << 20;

/// Runs a guest until it ends by itself or `control` stops it. When this returns, no thread, no descriptor and no lock
/// of the run is left; but an in-process guest that makes no hypercalls cannot be stopped, and keeps its own.
///
/// The signal SIGRTMIN belongs to this crate: its handler is installed, and unblocked on the vCPUs' threads.
///
/// # Errors
/// If the guest cannot be started; nothing has run then.
pub fn run(mut config: MachineConfig, control: &Arc<Control>) -> Result<Report, MachineError> {
    match &mut config.program {
        Program::Image(path) => {
            let path = std::mem::take(path);
            crate::kvm::run(config, &path, control)
        }
        Program::Hvm(hvm) => {
            let hvm = std::mem::take(hvm);
            crate::hvm::run(config, hvm, control)
        }
        Program::InProcess(main) => {
            let main = *main;
            crate::in_process::run(config, main, control)
        }
    }
}

/// Whether the host has what the image's note asks for.
pub fn check_note(note: &GuestNote, groups: &[GroupOffer], devices: &[Device]) -> Result<(), MachineError> {
    for need in note.groups.iter().take(usize::from(note.group_count)) {
        let host: Vec<_> = groups.iter().filter(|offer| offer.group == need.group).collect();
        let fits = |offer: &&&GroupOffer| offer.major == need.major && offer.minor_newest >= need.minor;
        let Some(offer) = host.iter().find(fits) else {
            let range = |o: &&GroupOffer| format!("{}.{} to {}.{}", o.major, o.minor_oldest, o.major, o.minor_newest);
            let list: Vec<_> = host.iter().map(range).collect();
            let host = if list.is_empty() { "no such group".into() } else { list.join(", ") };
            return Err(MachineError::Group { group: need.group, needs: (need.major, need.minor), host });
        };
        let missing = need.features & !offer.features;
        if missing != 0 {
            return Err(MachineError::Features { group: need.group, missing });
        }
    }
    for need in note.devices.iter().take(usize::from(note.device_count)) {
        let given = devices.iter().filter(|device| device.class() == need.class).count();
        if given < usize::from(need.required) {
            return Err(MachineError::Devices { class: need.class, needs: need.required, given: given as u16 });
        }
        // Every protocol of this host stands at the ABI's version.
        if given > 0 && (need.major != CURRENT.major || need.minor > CURRENT.minor) {
            return Err(MachineError::Protocol { class: need.class, needs: (need.major, need.minor) });
        }
    }
    Ok(())
}

impl Device {
    pub(crate) const fn class(&self) -> Class {
        match self {
            Self::Block { .. } => Class::BLOCK,
            Self::Console { .. } => Class::CONSOLE,
            Self::Net { .. } => Class::NET,
            Self::Services(_) => Class::SERVICES,
            Self::Entropy => Class::ENTROPY,
            Self::Remote { offer, .. } => offer.class,
        }
    }
}

/// The privilege level at which an image starts.
pub fn choose_cpl(flags: NoteFlags, asked: Option<u8>) -> Result<u8, MachineError> {
    let allowed = match (flags.contains(NoteFlags::CPL3), flags.contains(NoteFlags::CPL0)) {
        (true, true) => "CPL 0 and 3",
        (true, false) => "CPL 3 only",
        (false, true) => "CPL 0 only",
        (false, false) => "no level at all",
    };
    let fits = |cpl| match cpl {
        0 => flags.contains(NoteFlags::CPL0),
        3 => flags.contains(NoteFlags::CPL3),
        _ => false,
    };
    match asked {
        Some(cpl) if fits(cpl) => Ok(cpl),
        Some(asked) => Err(MachineError::Privilege { asked, allowed }),
        None if fits(3) => Ok(3),
        None if fits(0) => Ok(0),
        None => Err(MachineError::Privilege { asked: 3, allowed }),
    }
}

/// Whether a memory size can be used at all.
pub fn check_memory(memory: u64, most: u64) -> Result<(), MachineError> {
    let why = if memory < boot::MIN_MEMORY {
        format!("at least {} MiB are needed", boot::MIN_MEMORY >> 20)
    } else if memory > most {
        format!("at most {} GiB are supported", most >> 30)
    } else if !memory.is_multiple_of(LARGE) {
        "it must be a multiple of 2 MiB".into()
    } else {
        return Ok(());
    };
    Err(MachineError::MemorySize { memory, why })
}

/// Whether a window can be used at all, and is there if a device needs one.
pub fn check_window(config: &MachineConfig, most: u64) -> Result<(), MachineError> {
    let window = config.window;
    let needed = config.devices.iter().any(|device| matches!(device, Device::Remote { .. }));
    let why = if window > most || !window.is_multiple_of(LARGE) {
        format!("a window is a multiple of 2 MiB, at most {} GiB", most >> 30)
    } else if needed && window == 0 {
        "a backend in another process needs a window of guest memory".into()
    } else {
        return Ok(());
    };
    Err(MachineError::MemorySize { memory: window, why })
}

/// Random bytes for the guest; a host that has none yet gives zeros, which the guest mixes with what else it has.
pub fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    let _ = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::NONBLOCK);
    seed
}
