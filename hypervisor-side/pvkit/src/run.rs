//! `pvkit run`: one guest, from the command line to its exit status.

use crate::api::server::{self, Subject, fresh_generation};
use crate::backends::Backends;
use crate::cli::{ConsoleOption, DiskFormat, MachineChoice, NetKind, RunOptions, StatsFormat};
use crate::devices::Wire;
use crate::failure::{EXIT_CRASH, Failure};
use crate::nets::Published;
use crate::signals::{self, Caught};
use crate::terminal::RawMode;
use crate::{devices, guard, keyboard, mutant, nets, program, stats};
use pvkit_abi::services::ServiceKind;
use pvkit_backends::ConsoleInput;
use pvkit_backends::services::Services;
use pvkit_machine::{Control, Device, End, Hvm, MachineConfig, MachineError, Program, Report, is_stock_kernel};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a guest that was asked to shut down may take.
const GRACE: Duration = Duration::from_secs(10);
/// The window of a guest that has a backend in another process.
const DEFAULT_WINDOW: u64 = 64 << 20;
/// A guest that lived so long may be booted again without a pause.
const LONG_LIFE: Duration = Duration::from_secs(10);
/// Pauses before a guest is booted again that did not live long; each is twice the last one.
const LEAST_PAUSE: Duration = Duration::from_millis(20);
const MOST_PAUSE: Duration = Duration::from_secs(10);

/// Runs a guest until it ends; the guest's status is ours.
///
/// # Errors
/// It could not be started, or was ended by a signal.
pub fn run(options: &RunOptions) -> Result<ExitCode, Failure> {
    if let Some(parent) = options.die_with {
        guard::die_with(parent, rustix::process::Signal::KILL).map_err(Failure::run)?;
    }
    let control = Control::new();
    let services = Services::new(fresh_generation()).map_err(Failure::run)?;
    let (stop, kernel) = (Arc::clone(&control), Arc::clone(&services));
    let caught = signals::watch(GRACE + signals::PATIENCE, move || end(&stop, &kernel)).map_err(Failure::run)?;
    let refresh = Arc::clone(&control);
    signals::on_refresh(move || refresh.refresh_disks()).map_err(Failure::run)?;
    let report = run_on_console(options, &control, &services)?;
    write_stats(options, &report)?;
    exit_code(&report.end, &caught)
}

/// Ends the run: a guest that listens is asked first.
fn end(control: &Arc<Control>, services: &Services) {
    if !services.is_ready() {
        return control.stop();
    }
    let _ = services.ask(ServiceKind::SHUTDOWN, GRACE);
    let late = Arc::clone(control);
    let hard = std::thread::Builder::new().name("grace".into()).spawn(move || {
        std::thread::sleep(GRACE);
        late.stop();
    });
    if hard.is_err() {
        control.stop();
    }
}

/// The part of the run during which the terminal is the guest's.
fn run_on_console(options: &RunOptions, control: &Arc<Control>, services: &Arc<Services>) -> Result<Report, Failure> {
    let kind = kind(options)?;
    let ends = Ends::of(options, kind)?;
    let mut backends = Backends::new(name_of(options));
    let mut devices = devices::disks(&options.disks, options.mutant, &mut backends)?;
    let nets = nets::open(&options.nets, &options.publish, &mut backends)?;
    let subject = Subject::new(Arc::clone(control), Arc::clone(services));
    let socket = options.api_socket.as_ref().map(|path| server::listen(path, subject)).transpose()?;
    tell_published(options, &nets.published).map_err(Failure::run)?;
    devices.extend(nets.devices);
    // Last, so that every mistake on the command line is told on a terminal in its own mode.
    let terminal = match ends.uses_stdio() {
        true => RawMode::enter().map_err(Failure::run)?,
        false => None,
    };
    let typed = input(&ends, terminal.is_some(), control)?;
    // A stock kernel has its serial line; a console device besides is there if it is asked for.
    if kind != Kind::Stock || options.console.is_some() {
        let at_terminal = ends.console == ConsoleOption::Stdio;
        let for_console = if at_terminal { typed.clone() } else { keyboard::nobody().map_err(Failure::run)? };
        devices.push(devices::console(&ends.console, for_console)?);
    }
    devices.push(Device::Services(Arc::clone(services)));
    devices.push(Device::Entropy);
    let wire = ends.serial.as_ref().map(|serial| Wire::open(serial, &typed)).transpose()?;
    let boot = || {
        Ok(MachineConfig {
            program: program(options, kind, wire.as_ref())?,
            cmdline: options.cmdline.clone(),
            cpus: options.cpus,
            memory: options.memory.0,
            window: window(options),
            cpl: options.cpl,
            devices: devices.clone(),
            early_console: devices::early_console(ends.early()),
        })
    };
    let report = lives(options, boot, control)?;
    drop(terminal);
    drop(socket);
    Ok(report)
}

/// Boots the guest, and again each time that it asks for it. One that does so at once waits longer from time to time.
fn lives(
    options: &RunOptions,
    boot: impl Fn() -> Result<MachineConfig, Failure>,
    control: &Arc<Control>,
) -> Result<Report, Failure> {
    let mut pause = Duration::ZERO;
    for life in 1_u64.. {
        let start = Instant::now();
        let mut report = pvkit_machine::run(boot()?, control).map_err(machine_failure)?;
        report.boots = life;
        if report.end != End::Reboot || options.no_reboot || control.is_stopped() {
            return Ok(report);
        }
        pause = if start.elapsed() > LONG_LIFE { Duration::ZERO } else { (pause * 2).clamp(LEAST_PAUSE, MOST_PAUSE) };
        if pause == MOST_PAUSE {
            let _ = writeln!(io::stderr(), "pvkit: the guest restarts again and again; the next boot is in {pause:?}");
        }
        if control.stopped_within(pause) {
            return Ok(report);
        }
    }
    Err(Failure::run("the guest was booted as often as can be counted"))
}

/// Says where the published ports really are.
fn tell_published(options: &RunOptions, published: &[Published]) -> io::Result<()> {
    match &options.published_file {
        Some(path) => std::fs::write(path, published.iter().map(|port| format!("{port}\n")).collect::<String>()),
        None => published.iter().try_for_each(|port| writeln!(io::stderr(), "pvkit: {port}")),
    }
}

/// What `--kernel` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An image with our note.
    Pv,
    /// A stock kernel.
    Stock,
    /// Nothing: the application that is built in.
    BuiltIn,
}

/// Where console and serial line go.
struct Ends {
    console: ConsoleOption,
    /// None for guests that have no serial line.
    serial: Option<ConsoleOption>,
}

impl Ends {
    fn of(options: &RunOptions, kind: Kind) -> Result<Self, Failure> {
        if kind != Kind::Stock {
            return Ok(Self { console: options.console.clone().unwrap_or(ConsoleOption::Stdio), serial: None });
        }
        let console = options.console.clone().unwrap_or(ConsoleOption::Null);
        let free = if console == ConsoleOption::Stdio { ConsoleOption::Null } else { ConsoleOption::Stdio };
        let serial = options.serial.clone().unwrap_or(free);
        if console == ConsoleOption::Stdio && serial == ConsoleOption::Stdio {
            return Err(Failure::user(
                "--console stdio and --serial stdio: one terminal cannot be both; change one of them",
            ));
        }
        Ok(Self { console, serial: Some(serial) })
    }

    fn uses_stdio(&self) -> bool {
        self.console == ConsoleOption::Stdio || self.serial == Some(ConsoleOption::Stdio)
    }

    /// Where it is told what comes before any device, and what the host has to say.
    fn early(&self) -> &ConsoleOption {
        match &self.serial {
            Some(ConsoleOption::Stdio) => &ConsoleOption::Stdio,
            _ => &self.console,
        }
    }
}

/// What is typed, if anything is: it goes to whichever end is the terminal.
fn input(ends: &Ends, keys: bool, control: &Arc<Control>) -> Result<Arc<ConsoleInput>, Failure> {
    let leave = Arc::clone(control);
    let input = if ends.uses_stdio() { keyboard::listen(keys, move || leave.stop()) } else { keyboard::nobody() };
    input.map_err(Failure::run)
}

fn kind(options: &RunOptions) -> Result<Kind, Failure> {
    let kind = match (options.machine, &options.kernel) {
        (MachineChoice::Kvm, Some(image)) if image.is_file() => match is_stock_kernel(image) {
            Ok(true) => Kind::Stock,
            // What it is instead, or why it cannot be read, is told by who loads it.
            Ok(false) | Err(_) => Kind::Pv,
        },
        (MachineChoice::Kvm, Some(image)) => {
            return Err(Failure::user(format!(
                "guest image {} is not there, or not a file; check the path (`pvkit demo` builds an image)",
                image.display()
            )));
        }
        (MachineChoice::Kvm, None) => {
            return Err(Failure::user(
                "no guest image; give one with --kernel IMAGE (`pvkit demo` builds one, --machine in-process needs none)",
            ));
        }
        (MachineChoice::InProcess, None) => Kind::BuiltIn,
        (MachineChoice::InProcess, Some(image)) => {
            return Err(Failure::user(format!(
                "--kernel {} needs KVM: the in-process machine has the demo application built in; leave out one of the two",
                image.display()
            )));
        }
    };
    let only_stock = [("--initramfs", options.initramfs.is_some()), ("--serial", options.serial.is_some())];
    match only_stock.iter().find(|(_, given)| *given && kind != Kind::Stock) {
        Some((word, _)) => Err(Failure::user(format!(
            "{word} is for stock kernels (a bzImage, or an ELF image with a PVH note); a PV guest has no use for it"
        ))),
        None => Ok(kind),
    }
}

fn program(options: &RunOptions, kind: Kind, wire: Option<&Wire>) -> Result<Program, Failure> {
    let kernel = options.kernel.clone().unwrap_or_default();
    match kind {
        Kind::Pv => Ok(Program::Image(kernel)),
        Kind::BuiltIn => program::in_process().map_err(Failure::user),
        Kind::Stock => {
            let line = wire.map(|wire| mutant::serial(wire.line(), options.mutant)).transpose()?;
            Ok(Program::Hvm(Hvm { kernel, initramfs: options.initramfs.clone(), serial: line }))
        }
    }
}

/// What backends call the guest.
fn name_of(options: &RunOptions) -> String {
    let kernel = options.kernel.as_deref().and_then(|kernel| kernel.file_name());
    let kernel = kernel.map_or_else(|| "built-in guest".into(), |name| name.to_string_lossy().into_owned());
    format!("{kernel} (process {})", std::process::id())
}

/// A guest with a backend elsewhere has a window, of a size that suits most.
fn window(options: &RunOptions) -> u64 {
    let disks = options.disks.iter().any(|disk| matches!(disk.format, DiskFormat::Backend(_)));
    let elsewhere = disks || options.nets.iter().any(|net| matches!(net.kind, NetKind::Backend { .. }));
    let default = if elsewhere { DEFAULT_WINDOW } else { 0 };
    options.window.map_or(default, |size| size.0)
}

fn machine_failure(error: MachineError) -> Failure {
    if error.is_user_mistake() { Failure::user(error) } else { Failure::run(error) }
}

fn write_stats(options: &RunOptions, report: &Report) -> Result<(), Failure> {
    let Some(format) = options.stats.or(options.stats_file.as_ref().map(|_| StatsFormat::Json)) else { return Ok(()) };
    stats::write(report, format, options.stats_file.as_deref())
        .map_err(|error| Failure::run(error).while_doing("the counters could not be written"))
}

fn exit_code(end: &End, caught: &Caught) -> Result<ExitCode, Failure> {
    match end {
        End::PowerOff { code } => Ok(ExitCode::from(*code)),
        End::Reboot => {
            eprintln!("pvkit: the guest asked to be started again");
            Ok(ExitCode::SUCCESS)
        }
        End::Crash { message, registers } => {
            eprintln!("pvkit: the guest crashed: {message}\n{registers}");
            Ok(ExitCode::from(EXIT_CRASH))
        }
        End::Stopped => caught.signal().map_or(Ok(ExitCode::SUCCESS), |signal| Err(Failure::signal(signal))),
    }
}
