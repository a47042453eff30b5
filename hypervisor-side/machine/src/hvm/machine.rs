//! A fully virtualized machine on KVM: memory, interrupt controllers, vCPU threads, and the end.

use super::boot;
use super::layout::{self, Memory};
use super::platform::{Consequence, Platform};
use super::serial::Serial;
use super::vcpu::Vcpu;
use super::{acpi, cpu};
use crate::carrier::{Carrier, DoorbellAddress};
use crate::config::{Control, Hvm, MachineConfig, Request};
use crate::devices::Devices;
use crate::error::MachineError;
use crate::host::Host;
use crate::kvm::doorbells::Doorbells;
use crate::kvm::slots::give_memory;
use crate::kvm::stats::Stats;
use crate::kvm::threads::Threads;
use crate::kvm::{self, kick};
use crate::memory::GuestRam;
use crate::remote::Attached;
use crate::report::{End, Report};
use kvm_bindings::{CpuId, KVM_PIT_SPEAKER_DUMMY, kvm_msi, kvm_pit_config};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use pvkit_backends::Bell;
use pvkit_core::{Domain, DomainConfig, EventPath};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// How long a kernel may take to load its driver before the operator is told that it has not.
const DRIVER_PATIENCE: Duration = Duration::from_secs(60);

/// A guest.
pub struct HvmMachine {
    pub host: Arc<Host>,
    pub platform: Platform,
    pub serial: Arc<Serial>,
    pub threads: Threads,
    stats: Vec<Stats>,
    stopped: AtomicBool,
    end: OnceLock<End>,
    control: Arc<Control>,
    doorbells: Doorbells,
    me: Weak<HvmMachine>,
    vm: VmFd,
}

/// Runs a stock kernel until it ends.
pub fn run(config: MachineConfig, mut hvm: Hvm, control: &Arc<Control>) -> Result<Report, MachineError> {
    check(&config)?;
    let kvm = kvm::open().map_err(MachineError::Kvm)?;
    if !kvm.check_extension(Cap::Irqchip) || !kvm.check_extension(Cap::SignalMsi) {
        return Err(MachineError::Kvm(crate::KvmProblem::Capability("KVM_CAP_IRQCHIP or KVM_CAP_SIGNAL_MSI")));
    }
    let (output, input) = match hvm.serial.take() {
        Some(line) => (line.output, line.input),
        None => (Box::new(io::sink()) as Box<dyn io::Write + Send>, None),
    };
    let (machine, vcpus) = HvmMachine::new(&kvm, config, &hvm, output, control)?;
    let typist = input.map(|input| machine.serial.listen(input)).transpose();
    let typist = typist.map_err(MachineError::host("starting the serial line"))?;
    control.attach(&machine.host);
    let remotes = Attached::start(&machine.host).map_err(MachineError::host("starting the backends"))?;
    for (number, fd) in (0..).zip(vcpus) {
        machine.start(number, fd);
    }
    machine.attend();
    machine.stop();
    machine.serial.end();
    if let Some(typist) = typist {
        let _ = typist.join();
    }
    let report = machine.report();
    drop(remotes);
    Ok(report)
}

fn check(config: &MachineConfig) -> Result<(), MachineError> {
    if config.cpus == 0 || config.cpus > layout::MAX_VCPUS {
        return Err(MachineError::Cpus { cpus: config.cpus, most: layout::MAX_VCPUS });
    }
    crate::run::check_memory(config.memory, layout::MAX_MEMORY)?;
    if config.memory < layout::MIN_MEMORY {
        let why = format!("a stock kernel needs at least {} MiB", layout::MIN_MEMORY >> 20);
        return Err(MachineError::MemorySize { memory: config.memory, why });
    }
    crate::run::check_window(config, layout::MAX_WINDOW)
}

impl HvmMachine {
    fn new(
        kvm: &Kvm,
        config: MachineConfig,
        hvm: &Hvm,
        output: Box<dyn io::Write + Send>,
        control: &Arc<Control>,
    ) -> Result<(Arc<Self>, Vec<VcpuFd>), MachineError> {
        kick::install().map_err(MachineError::host("installing the vCPU signal"))?;
        let vm = kvm.create_vm().map_err(kvm_error("creating the virtual machine"))?;
        let memory = Memory::new(config.memory, config.window);
        let ram = GuestRam::scattered(&memory.ram, memory.window.first().copied());
        let ram = ram.map_err(MachineError::host("allocating the guest's memory"))?;
        give_memory(&vm, &ram).map_err(MachineError::host("giving the guest its memory"))?;
        let entry = boot::load(&ram, &memory, hvm, &config.cmdline)?;
        cpu::boot_tables(&ram, entry)?;
        boot::put(&ram, layout::ACPI, &acpi::tables(layout::ACPI, config.cpus))?;
        let (serial, wire) = Serial::new(output).map_err(MachineError::host("making the serial line"))?;
        controllers(&vm).map_err(kvm_error("making the interrupt controllers"))?;
        vm.register_irqfd(&wire, layout::SERIAL_IRQ).map_err(kvm_error("wiring the serial line"))?;
        let leaves = cpu::leaves(kvm, config.cpus).map_err(MachineError::host("asking KVM for its CPUID leaves"))?;
        let vcpus = vcpus(&vm, &leaves, config.cpus).map_err(MachineError::host("creating a vCPU"))?;
        if let Some(first) = vcpus.first() {
            cpu::start(first, entry).map_err(MachineError::host("setting the first vCPU's registers"))?;
        }
        let groups = Domain::hvm_groups();
        let platform = Platform::new(&memory, &groups);
        let devices = Devices::new(config.devices, config.cpus);
        let domain = Domain::new(DomainConfig {
            vcpus: config.cpus,
            groups,
            devices: devices.configs(),
            cpl3_allowed: false,
            events: EventPath::MsiX,
            epochs_after: control.last_epoch(),
        });
        let stats = vcpus.iter().filter_map(|fd| Stats::open(fd).ok()).collect();
        let machine = Arc::new_cyclic(|me: &Weak<Self>| {
            let carrier: Weak<dyn Carrier> = me.clone();
            Self {
                host: Host::new(ram, domain, Vec::new(), devices, carrier, config.early_console),
                platform,
                serial,
                threads: Threads::new(config.cpus),
                stats,
                stopped: AtomicBool::new(false),
                end: OnceLock::new(),
                control: control.clone(),
                doorbells: Doorbells::default(),
                me: me.clone(),
                vm,
            }
        });
        Ok((machine, vcpus))
    }

    /// Does what is asked of a running machine until it ends. Says once if the guest makes no use of it.
    fn attend(&self) {
        let mut told = false;
        loop {
            let request = if told { Some(self.control.wait()) } else { self.control.wait_for(DRIVER_PATIENCE) };
            if !told && request != Some(Request::RefreshDisks) {
                self.say_if_unused();
                told = true;
            }
            match request {
                Some(Request::End) => break,
                Some(Request::RefreshDisks) => self.host.refresh_disks(),
                None => {}
            }
        }
    }

    fn say_if_unused(&self) {
        let devices = self.host.devices_offered();
        if devices > 0 && !self.host.is_negotiated() {
            self.host.log(format!(
                "the guest has not loaded the pvkit driver, so it sees none of its {devices} PV devices (disks, networks, \
                 console); install the module of guest-drivers/linux in it"
            ));
        }
    }

    fn start(&self, number: u32, fd: VcpuFd) {
        let Some(machine) = self.me.upgrade() else { return };
        let thread = std::thread::Builder::new().name(format!("vcpu{number}")).spawn(move || {
            // Whatever happens, the run must hear of its end.
            let end = catch_unwind(AssertUnwindSafe(|| Vcpu::new(fd, number, &machine).run()));
            machine
                .finish(end.unwrap_or_else(|_| crash("pvkit's own vCPU thread panicked; please report this".into())));
        });
        match thread {
            Ok(thread) => self.threads.add(thread),
            Err(error) => self.finish(crash(format!("no thread for vCPU {number}: {error}"))),
        }
    }

    /// The first end counts.
    fn finish(&self, end: End) {
        let _ = self.end.set(end);
        self.control.done();
    }

    /// Whether vCPUs are to leave.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// What an access to a device leads to.
    pub fn carry_out(&self, consequence: Consequence) {
        if consequence.reset {
            self.host.reset();
        }
        for message in consequence.messages {
            self.send(message.address, message.data);
        }
    }

    /// An interrupt message to the guest's own controllers. One that names no vCPU is dropped by KVM.
    fn send(&self, address: u64, data: u32) {
        let msi =
            kvm_msi { address_lo: address as u32, address_hi: (address >> 32) as u32, data, ..Default::default() };
        let _ = self.vm.signal_msi(msi);
    }

    /// Takes every vCPU out of the guest, then drains the devices.
    fn stop(&self) {
        let _ = self.end.set(End::Stopped);
        self.stopped.store(true, Ordering::SeqCst);
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
        Report { end, machine: "KVM, fully virtualized", boots: 1, negotiated: self.host.negotiated(), counters }
    }
}

impl Carrier for HvmMachine {
    fn attach(&self, fd: &Arc<Bell>) -> io::Result<DoorbellAddress> {
        self.doorbells.attach(&self.vm, fd)
    }

    fn detach(&self, fd: &Arc<Bell>, at: DoorbellAddress) {
        if let Err(error) = self.doorbells.detach(&self.vm, fd, at) {
            self.host.log(format!("doorbell {:#x} could not be detached: {error}", at.address));
        }
    }

    fn start_vcpu(&self, _: u32, _: u64, _: u64, _: u64) {
        // The guest starts its vCPUs by itself; the group is not offered.
    }

    fn kick(&self, _: u32) {
        // No upcalls: events are interrupts.
    }

    fn signal(&self, port: u32) {
        if let Some(message) = self.platform.signal(port) {
            self.send(message.address, message.data);
        }
    }
}

/// Interrupt controllers and timer, all in the kernel.
fn controllers(vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
    // Only some Intel processors need these; nothing else may be there.
    vm.set_identity_map_address(layout::KVM_IDENTITY_MAP)?;
    vm.set_tss_address(layout::KVM_TSS as usize)?;
    vm.create_irq_chip()?;
    vm.create_pit2(kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() })
}

fn vcpus(vm: &VmFd, leaves: &CpuId, count: u32) -> io::Result<Vec<VcpuFd>> {
    let vcpu = |number| {
        let fd = vm.create_vcpu(u64::from(number)).map_err(io::Error::from)?;
        fd.set_cpuid2(&cpu::leaves_of(leaves, number, count)).map_err(io::Error::from)?;
        cpu::prepare(&fd)?;
        Ok(fd)
    };
    (0..count).map(vcpu).collect()
}

fn kvm_error(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> MachineError {
    move |error| MachineError::Host { what, error: error.into() }
}

fn crash(message: String) -> End {
    End::Crash { message, registers: String::new() }
}
