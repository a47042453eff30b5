//! The in-process machine: the guest is a thread, a hypercall is a function call, a doorbell is an eventfd write.
//!
//! *Purpose.* The same core, backends and rings without KVM: for machines that have none, for tests, for benchmarks.
//! There is no isolation: the guest is this program's own code.
//!
//! *Ends.* A guest that powers off, crashes or is stopped leaves by unwinding, from inside a hypercall. A guest that
//! makes no hypercalls cannot be stopped; its thread is abandoned after [`PATIENCE`], with its memory.

use crate::boot::{self, Facts};
use crate::carrier::{Carrier, DoorbellAddress};
use crate::config::{Control, MachineConfig, Request};
use crate::devices::Devices;
use crate::error::MachineError;
use crate::gate::{Gate, Wake};
use crate::host::Host;
use crate::memory::GuestRam;
use crate::remote::Attached;
use crate::report::{End, Report, printable};
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::DoorbellKind;
use pvkit_abi::discovery::{BootFlags, BootInfo, MAX_DOORBELLS, Region, RegionKind, Transport};
use pvkit_abi::hypercall::{Call, ShutdownReason};
use pvkit_abi::status::CallError;
use pvkit_backends::Bell;
use pvkit_core::{Domain, DomainConfig, EventPath, GuestAddr, GuestMemory, Outcome};
use pvkit_shared_memory::SharedBytes;
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a guest that was told to stop may go on without a hypercall.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes at the start of memory for boot info, command line and vCPU area.
const BOOT_BYTES: u64 = 2 << 20;
/// Most memory: it is this process's own.
const MAX_MEMORY: u64 = 16 << 30;

/// What a guest in this process has instead of a processor: its memory, its boot info, and the doors to the host.
pub struct InProcessPlatform {
    machine: Arc<InProcessMachine>,
    info: BootInfo,
    started: Instant,
}

/// How a guest leaves its thread.
struct Leave(End);

struct InProcessMachine {
    host: Arc<Host>,
    doorbells: Mutex<Vec<Option<Arc<Bell>>>>,
    ram: Arc<GuestRam>,
    /// Bytes of the main memory.
    memory: u64,
    end: OnceLock<End>,
}

/// Runs `main` as a guest until it ends.
pub fn run(
    config: MachineConfig,
    main: fn(&InProcessPlatform, &str) -> i32,
    control: &Arc<Control>,
) -> Result<Report, MachineError> {
    if config.cpus != 1 {
        return Err(MachineError::Cpus { cpus: config.cpus, most: 1 });
    }
    crate::run::check_memory(config.memory, MAX_MEMORY)?;
    crate::run::check_window(&config, MAX_MEMORY)?;
    let cmdline = config.cmdline.clone();
    let platform = platform(config, control.last_epoch())?;
    let machine = platform.machine.clone();
    control.attach(&machine.host);
    let remotes = Attached::start(&machine.host).map_err(MachineError::host("starting the backends"))?;
    let (thread_machine, thread_control) = (machine.clone(), control.clone());
    let thread = std::thread::Builder::new().name("guest".into()).spawn(move || {
        let end = match catch_unwind(AssertUnwindSafe(|| main(&platform, &cmdline))) {
            Ok(code) => End::PowerOff { code: code as u8 },
            Err(payload) => end_of(payload),
        };
        let _ = thread_machine.end.set(end);
        thread_control.done();
    });
    let thread = thread.map_err(MachineError::host("starting the guest's thread"))?;
    while control.wait() == Request::RefreshDisks {
        machine.host.refresh_disks();
    }
    machine.host.stop_gates();
    let deadline = Instant::now() + PATIENCE;
    while !thread.is_finished() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    if thread.is_finished() {
        let _ = thread.join();
    } else {
        machine.host.log("the guest's thread does not leave and is abandoned".into());
    }
    machine.host.close_all();
    control.note_epoch(machine.host.last_epoch());
    machine.ram.retire();
    let end = machine.end.get().cloned().unwrap_or(End::Stopped);
    let report = Report {
        end,
        machine: "in-process",
        boots: 1,
        negotiated: machine.host.negotiated(),
        counters: machine.host.counters(),
    };
    drop(remotes);
    Ok(report)
}

fn platform(config: MachineConfig, epochs_after: u64) -> Result<InProcessPlatform, MachineError> {
    let memory = config.memory;
    let ram = GuestRam::identity(memory, config.window).map_err(MachineError::host("allocating the guest's memory"))?;
    let base = ram.base().0;
    let (cmdline, vcpu_area) = (base + PAGE_SIZE as u64, base + BOOT_BYTES - PAGE_SIZE as u64);
    let groups = Domain::default_groups();
    let facts = Facts {
        flags: BootFlags::IN_PROCESS,
        transport: Transport::DIRECT,
        vcpus: 1,
        groups: groups.clone(),
        tsc_khz: 0,
        tsc_at_start: 0,
        wall_clock_ns: boot::wall_clock_ns(),
        seed: crate::run::seed(),
    };
    let region = |base, length, kind| Region { base, length, kind, reserved: 0 };
    let main =
        [region(base, BOOT_BYTES, RegionKind::BOOT), region(base + BOOT_BYTES, memory - BOOT_BYTES, RegionKind::RAM)];
    let window = ram.window().map(|(base, length)| region(base, length, RegionKind::WINDOW));
    let mut regions: Vec<Region> = main.into_iter().chain(window).collect();
    regions.sort_by_key(|region| region.base);
    let info = boot::boot_info(&facts, cmdline, config.cmdline.len(), vcpu_area, &regions);
    let outside = |_| MachineError::MemorySize { memory, why: "the command line does not fit".into() };
    if config.cmdline.len() as u64 > BOOT_BYTES - 2 * PAGE_SIZE as u64 {
        return Err(outside(pvkit_core::Fault));
    }
    ram.write(GuestAddr(cmdline), config.cmdline.as_bytes()).map_err(outside)?;
    let gate = Gate::new(&ram, GuestAddr(vcpu_area)).map_err(outside)?;
    let devices = Devices::new(config.devices, 1);
    let domain = Domain::new(DomainConfig {
        vcpus: 1,
        groups,
        devices: devices.configs(),
        cpl3_allowed: true,
        events: EventPath::VcpuArea,
        epochs_after,
    });
    let machine = Arc::new_cyclic(|me: &Weak<InProcessMachine>| {
        let carrier: Weak<dyn Carrier> = me.clone();
        InProcessMachine {
            host: Host::new(ram.clone(), domain, vec![gate], devices, carrier, config.early_console),
            doorbells: Mutex::new(vec![None; usize::from(MAX_DOORBELLS)]),
            ram,
            memory,
            end: OnceLock::new(),
        }
    });
    Ok(InProcessPlatform { machine, info, started: Instant::now() })
}

/// What unwound the guest's thread: its own leaving, or a panic of the guest's code.
fn end_of(payload: Box<dyn Any + Send>) -> End {
    match payload.downcast::<Leave>() {
        Ok(leave) => leave.0,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            End::Crash {
                message: text.unwrap_or_else(|| "the guest panicked".into()),
                registers: "registers: none, the guest is a thread".into(),
            }
        }
    }
}

impl InProcessPlatform {
    /// The window, likewise; none if the machine has none.
    #[must_use]
    pub fn window(&self) -> Option<SharedBytes> {
        let (base, length) = self.machine.ram.window()?;
        self.machine.ram.shared(GuestAddr(base), length).ok()
    }

    /// The guest's main memory; addresses are those of this process and stay mapped for ever, but the content goes with the
    /// run.
    #[must_use]
    pub fn memory(&self) -> Option<SharedBytes> {
        self.machine.ram.shared(self.machine.ram.base(), self.machine.memory).ok()
    }

    /// What the host says at start.
    #[must_use]
    pub const fn boot_info(&self) -> &BootInfo {
        &self.info
    }

    /// One hypercall. Those that do not return leave the thread by unwinding.
    #[must_use]
    pub fn hypercall(&self, call: Call, args: [u64; 5]) -> i64 {
        if std::thread::panicking() {
            // A destructor of a guest that is leaving: it has nothing more to say, and must not leave twice.
            return CallError::BUSY.to_result();
        }
        let host = &self.machine.host;
        host.exits.hypercall.fetch_add(1, Ordering::Relaxed);
        if host.gate(0).is_stopped() {
            leave(End::Stopped);
        }
        match host.hypercall(0, 3, call, args) {
            Outcome::Return(result) => result,
            Outcome::Block { timeout_ns } => match host.gate(0).block(Duration::from_nanos(timeout_ns)) {
                Wake::Event => 0,
                Wake::Deadline => 1,
                Wake::Stopped => leave(End::Stopped),
            },
            Outcome::Yield => {
                std::thread::yield_now();
                0
            }
            Outcome::WallClock => boot::wall_clock_ns() as i64,
            // There are no upcalls without a processor to interrupt.
            Outcome::UpcallReturn(_) => CallError::UNSUPPORTED.to_result(),
            Outcome::Shutdown { reason: ShutdownReason::REBOOT, .. } => leave(End::Reboot),
            Outcome::Shutdown { code, .. } => leave(End::PowerOff { code }),
            Outcome::Crash { message } => leave(End::Crash {
                message: printable(&message),
                registers: "registers: none, the guest is a thread".into(),
            }),
        }
    }

    /// Rings a doorbell by its token. A token of no queue is ignored, as a write to a dead port is.
    pub fn doorbell(&self, token: u64) {
        let doorbells = self.machine.doorbells.lock().unwrap_or_else(PoisonError::into_inner);
        let doorbell = usize::try_from(token).ok().and_then(|token| doorbells.get(token)).and_then(Option::as_ref);
        if let Some(fd) = doorbell {
            // Full only after 2^64 - 1 unread rings: then it is ringing anyway.
            let _ = fd.ring();
        }
    }

    /// Monotonic nanoseconds since the guest was started.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }
}

fn leave(end: End) -> ! {
    resume_unwind(Box::new(Leave(end)))
}

impl Carrier for InProcessMachine {
    fn attach(&self, fd: &Arc<Bell>) -> io::Result<DoorbellAddress> {
        let mut doorbells = self.doorbells.lock().unwrap_or_else(PoisonError::into_inner);
        let free = doorbells.iter_mut().enumerate().find(|(_, slot)| slot.is_none());
        let (token, slot) = free.ok_or_else(|| io::Error::other("no free doorbell"))?;
        *slot = Some(fd.clone());
        Ok(DoorbellAddress { kind: DoorbellKind::TOKEN, address: token as u64 })
    }

    fn detach(&self, _: &Arc<Bell>, at: DoorbellAddress) {
        let mut doorbells = self.doorbells.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = doorbells.get_mut(at.address as usize) {
            *slot = None;
        }
    }

    fn start_vcpu(&self, _: u32, _: u64, _: u64, _: u64) {
        // One vCPU, which runs: the core has no other to start.
    }

    fn kick(&self, _: u32) {
        // There are no upcalls, so nothing runs that could be interrupted.
    }

    fn signal(&self, _: u32) {
        // Events go to the gate.
    }
}

#[cfg(test)]
mod tests;
