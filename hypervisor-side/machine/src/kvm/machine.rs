//! A guest on KVM: memory, vCPU threads, doorbells, and the end.

use super::doorbells::Doorbells;
use super::kick;
use super::open;
use super::slots::give_memory;
use super::stats::Stats;
use super::threads::Threads;
use super::vcpu::{Start, Vcpu};
use crate::boot::{self, Facts, Layout};
use crate::carrier::{Carrier, DoorbellAddress};
use crate::config::{Control, MachineConfig, Request};
use crate::cpuid::with_host;
use crate::devices::Devices;
use crate::error::MachineError;
use crate::gate::Gate;
use crate::host::Host;
use crate::image::Image;
use crate::memory::GuestRam;
use crate::remote::Attached;
use crate::report::{End, Report};
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_cpuid_entry2, kvm_msr_entry};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::discovery::{BootFlags, Transport};
use pvkit_backends::Bell;
use pvkit_core::{Domain, DomainConfig, EventPath, GuestAddr};
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// The time-stamp counter's MSR.
const IA32_TSC: u32 = 0x10;

/// A guest on KVM.
pub struct KvmMachine {
    pub host: Arc<Host>,
    pub threads: Threads,
    pub cpuid: CpuId,
    /// Whether the image has exception stubs.
    pub has_gates: bool,
    boot_info: u64,
    cpl: u8,
    /// Made at the start, taken by a vCPU's thread.
    idle: Mutex<BTreeMap<u32, VcpuFd>>,
    stats: Vec<Stats>,
    end: OnceLock<End>,
    control: Arc<Control>,
    doorbells: Doorbells,
    me: Weak<KvmMachine>,
    vm: VmFd,
}

/// Runs an image until it ends.
pub fn run(config: MachineConfig, path: &Path, control: &Arc<Control>) -> Result<Report, MachineError> {
    let image = Image::read(path)
        .map_err(|error| MachineError::Image { path: path.to_path_buf(), error: error.to_string() })?;
    let groups = Domain::default_groups();
    crate::run::check_note(&image.note, &groups, &config.devices)?;
    let cpl = crate::run::choose_cpl(image.flags(), config.cpl)?;
    if config.cpus == 0 || config.cpus > boot::MAX_VCPUS {
        return Err(MachineError::Cpus { cpus: config.cpus, most: boot::MAX_VCPUS });
    }
    crate::run::check_memory(config.memory, boot::MAX_MEMORY)?;
    crate::run::check_window(&config, boot::MAX_WINDOW)?;
    let layout = Layout::new(&image, &config.cmdline, config.cpus, config.memory, config.window)?;
    let kvm = open().map_err(MachineError::Kvm)?;
    let machine = KvmMachine::new(&kvm, config, &image, &layout, cpl, control)?;
    let start = Start { entry: image.entry, stack_top: layout.stack_top, boot_info: layout.boot_info, argument: 0 };
    drop(image);
    control.attach(&machine.host);
    let remotes = Attached::start(&machine.host).map_err(MachineError::host("starting the backends"))?;
    machine.start(0, start);
    while control.wait() == Request::RefreshDisks {
        machine.host.refresh_disks();
    }
    machine.stop();
    let report = machine.report();
    drop(remotes);
    Ok(report)
}

impl KvmMachine {
    fn new(
        kvm: &Kvm,
        config: MachineConfig,
        image: &Image,
        layout: &Layout,
        cpl: u8,
        control: &Arc<Control>,
    ) -> Result<Arc<Self>, MachineError> {
        let host_error = |what| move |error: kvm_ioctls::Error| MachineError::Host { what, error: error.into() };
        kick::install().map_err(MachineError::host("installing the vCPU signal"))?;
        let vm = kvm.create_vm().map_err(host_error("creating the virtual machine"))?;
        let ram = GuestRam::scattered(&[(0, config.memory)], layout.window);
        let ram = ram.map_err(MachineError::host("allocating the guest's memory"))?;
        give_memory(&vm, &ram).map_err(MachineError::host("giving the guest its memory"))?;
        let mut idle = BTreeMap::new();
        for number in 0..config.cpus {
            let fd = vm.create_vcpu(u64::from(number)).map_err(host_error("creating a vCPU"))?;
            idle.insert(number, fd);
        }
        let (tsc_khz, tsc_at_start) = idle.get(&0).map_or((0, 0), clock);
        let wall_clock_ns = boot::wall_clock_ns();
        let groups = Domain::default_groups();
        let facts = Facts {
            flags: if cpl == 3 { BootFlags::CPL3 } else { BootFlags::empty() },
            transport: Transport::PORT_REGISTERS,
            vcpus: config.cpus,
            groups: groups.clone(),
            tsc_khz,
            tsc_at_start,
            wall_clock_ns,
            seed: crate::run::seed(),
        };
        let outside = |_| MachineError::MemorySize { memory: config.memory, why: "the layout does not fit".into() };
        boot::load(&ram, image, layout, &config.cmdline, &facts).map_err(outside)?;
        let gates = (0..config.cpus)
            .map(|number| Gate::new(&ram, GuestAddr(layout.vcpu_areas + u64::from(number) * PAGE_SIZE as u64)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(outside)?;
        let devices = Devices::new(config.devices, config.cpus);
        let domain = Domain::new(DomainConfig {
            vcpus: config.cpus,
            groups,
            devices: devices.configs(),
            cpl3_allowed: cpl == 3,
            events: EventPath::VcpuArea,
            epochs_after: control.last_epoch(),
        });
        let cpuid = cpuid(kvm, layout.boot_info).map_err(MachineError::host("asking KVM for its CPUID leaves"))?;
        let stats = idle.values().filter_map(|fd| Stats::open(fd).ok()).collect();
        Ok(Arc::new_cyclic(|me: &Weak<Self>| {
            let carrier: Weak<dyn Carrier> = me.clone();
            Self {
                host: Host::new(ram, domain, gates, devices, carrier, config.early_console),
                threads: Threads::new(config.cpus),
                cpuid,
                has_gates: image.note.exception_entry != 0,
                boot_info: layout.boot_info,
                cpl,
                idle: Mutex::new(idle),
                stats,
                end: OnceLock::new(),
                control: control.clone(),
                doorbells: Doorbells::default(),
                me: me.clone(),
                vm,
            }
        }))
    }

    /// Starts a vCPU's thread. A vCPU that cannot be started ends the guest: it would wait for ever.
    fn start(&self, number: u32, start: Start) {
        let Some(machine) = self.me.upgrade() else { return };
        let Some(fd) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).remove(&number) else { return };
        let thread = std::thread::Builder::new().name(format!("vcpu{number}")).spawn(move || {
            let run = || match Vcpu::new(fd, number, machine.cpl, start, &machine) {
                Ok(vcpu) => vcpu.run(),
                Err(error) => crash(format!("vCPU {number} could not be started: {error}")),
            };
            // Whatever happens, the run must hear of its end.
            let end = catch_unwind(AssertUnwindSafe(run));
            machine
                .finish(end.unwrap_or_else(|_| crash("pvkit's own vCPU thread panicked; please report this".into())));
        });
        match thread {
            Ok(thread) => self.threads.add(thread),
            Err(error) => {
                self.finish(crash(format!("no thread for vCPU {number}: {error}")));
            }
        }
    }

    /// The first end counts.
    fn finish(&self, end: End) {
        let _ = self.end.set(end);
        self.control.done();
    }

    /// Takes every vCPU out of the guest, then drains the devices.
    fn stop(&self) {
        let _ = self.end.set(End::Stopped);
        self.host.stop_gates();
        self.threads.join();
        self.host.close_all();
    }

    fn report(&self) -> Report {
        self.control.note_epoch(self.host.last_epoch());
        let mut counters = self.host.counters();
        for stats in &self.stats {
            for (name, count) in stats.read() {
                *counters.kvm.entry(name).or_default() += count;
            }
        }
        let end = self.end.get().cloned().unwrap_or(End::Stopped);
        Report { end, machine: "KVM", boots: 1, negotiated: self.host.negotiated(), counters }
    }
}

impl Carrier for KvmMachine {
    fn attach(&self, fd: &Arc<Bell>) -> io::Result<DoorbellAddress> {
        self.doorbells.attach(&self.vm, fd)
    }

    fn detach(&self, fd: &Arc<Bell>, at: DoorbellAddress) {
        if let Err(error) = self.doorbells.detach(&self.vm, fd, at) {
            self.host.log(format!("doorbell {:#x} could not be detached: {error}", at.address));
        }
    }

    fn start_vcpu(&self, vcpu: u32, entry: u64, stack_top: u64, argument: u64) {
        self.start(vcpu, Start { entry, stack_top, boot_info: self.boot_info, argument });
    }

    fn kick(&self, vcpu: u32) {
        self.threads.kick(vcpu);
    }

    fn signal(&self, _: u32) {
        // Events of a PV guest go to its vCPUs' gates.
    }
}

fn crash(message: String) -> End {
    End::Crash { message, registers: String::new() }
}

/// The guest's time-stamp counter: frequency in kHz and value now.
fn clock(vcpu: &VcpuFd) -> (u64, u64) {
    let khz = vcpu.get_tsc_khz().map_or(0, u64::from);
    let entry = kvm_msr_entry { index: IA32_TSC, ..Default::default() };
    let now = Msrs::from_entries(&[entry]).ok().and_then(|mut msrs| {
        let read = vcpu.get_msrs(&mut msrs).ok()?;
        (read == 1).then(|| msrs.as_slice().first().map(|msr| msr.data)).flatten()
    });
    (khz, now.unwrap_or(0))
}

/// A PV guest has no APIC, and is under a hypervisor.
fn suit_guest(leaf: &mut kvm_cpuid_entry2) {
    /// Leaf 1, ECX: x2APIC, TSC deadline timer, hypervisor present. (AMD64 manual volume 3, E.3.2; SDM volume 2, CPUID.)
    const X2APIC: u32 = 1 << 21;
    const TSC_DEADLINE: u32 = 1 << 24;
    const HYPERVISOR: u32 = 1 << 31;
    /// Leaf 1, EDX: APIC.
    const APIC: u32 = 1 << 9;
    if leaf.function == 1 {
        leaf.ecx = leaf.ecx & !(X2APIC | TSC_DEADLINE) | HYPERVISOR;
        leaf.edx &= !APIC;
    }
}

/// The leaves of one vCPU: its number where the processor's own stood.
pub fn cpuid_of(leaves: &CpuId, vcpu: u32) -> CpuId {
    let mut own = leaves.clone();
    for leaf in own.as_mut_slice() {
        match leaf.function {
            // Initial APIC id in the top byte of EBX.
            1 => leaf.ebx = leaf.ebx & 0x00ff_ffff | vcpu << 24,
            // Extended topology: x2APIC id in EDX.
            0xb | 0x1f => leaf.edx = vcpu,
            _ => {}
        }
    }
    own
}

/// KVM's leaves and ours behind them.
fn cpuid(kvm: &Kvm, boot_info: u64) -> io::Result<CpuId> {
    let mut leaves = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
    leaves.as_mut_slice().iter_mut().for_each(suit_guest);
    with_host(&leaves, boot_info)
}
