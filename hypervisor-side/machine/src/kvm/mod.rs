//! The KVM machine for PV guests, and the pieces of KVM that fully virtualized machines use too.

pub mod doorbells;
pub mod exit;
pub mod fault;
mod ioeventfd;
pub mod kick;
mod machine;
pub mod slots;
pub mod stats;
pub mod threads;
mod vcpu;

pub use machine::run;

use crate::error::KvmProblem;
use kvm_ioctls::{Cap, Kvm};
use std::io;

/// What a PV guest needs of KVM; each has been in mainline for years (the newest, SYNC_REGS on x86, since Linux 4.17).
const NEEDED: [(Cap, &str); 5] = [
    (Cap::SyncRegs, "KVM_CAP_SYNC_REGS"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::GetTscKhz, "KVM_CAP_GET_TSC_KHZ"),
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
];

/// Whether a PV guest can run on this machine's KVM, tried by making a virtual machine.
///
/// # Errors
/// What is lacking, with the remedy in its text.
pub fn probe_kvm() -> Result<(), KvmProblem> {
    let kvm = open()?;
    kvm.create_vm().map(drop).map_err(|error| KvmProblem::Create(error.into()))
}

/// What a PV guest needs of KVM, and whether this one has it.
///
/// # Errors
/// There is no KVM that could be asked.
pub fn kvm_capabilities() -> Result<Vec<(&'static str, bool)>, KvmProblem> {
    let kvm = open_any()?;
    Ok(NEEDED.iter().map(|(capability, name)| (*name, kvm.check_extension(*capability))).collect())
}

pub fn open() -> Result<Kvm, KvmProblem> {
    let kvm = open_any()?;
    match NEEDED.iter().find(|(capability, _)| !kvm.check_extension(*capability)) {
        Some((_, name)) => Err(KvmProblem::Capability(name)),
        None => Ok(kvm),
    }
}

/// Whatever it can do.
fn open_any() -> Result<Kvm, KvmProblem> {
    let kvm = Kvm::new().map_err(|error| match io::Error::from(error) {
        error if error.kind() == io::ErrorKind::NotFound => KvmProblem::Missing,
        error if error.kind() == io::ErrorKind::PermissionDenied => KvmProblem::Permission,
        error if error.raw_os_error() == Some(libc::ENXIO) || error.raw_os_error() == Some(libc::ENODEV) => {
            KvmProblem::Missing
        }
        error => KvmProblem::Open(error),
    })?;
    match kvm.get_api_version() {
        12 => Ok(kvm),
        other => Err(KvmProblem::ApiVersion(other)),
    }
}
