//! A guest under test: started, watched, and stopped at a deadline.

use pvkit_backends::ConsoleInput;
use pvkit_machine::{Control, Device, End, MachineConfig, MachineError, Program, Report, probe_kvm, run};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// No guest of a test runs longer. The emulated lanes are slow; a guest that hangs is stopped and the test fails.
const DEADLINE: Duration = Duration::from_secs(60);

/// Says why a KVM test does not run here, on a line of its own that the lane counts.
#[must_use]
pub fn unless_kvm() -> bool {
    match probe_kvm() {
        Ok(()) => true,
        Err(why) => {
            println!("skipped: kvm: {why}");
            false
        }
    }
}

/// Output that can be read while the guest runs.
#[derive(Clone, Debug, Default)]
pub struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    /// All of it so far.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until `wanted` is there.
    ///
    /// # Panics
    /// If it does not come.
    pub fn wait_for(&self, wanted: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !self.text().contains(wanted) {
            assert!(Instant::now() < deadline, "`{wanted}` did not come: {}", self.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A guest to be run.
pub struct Guest {
    config: MachineConfig,
    console: Sink,
    early: Sink,
    deadline: Duration,
}

/// A guest that ran.
pub struct Ran {
    /// How it ended, what was agreed, all counters.
    pub report: Report,
    /// What it wrote to its console device.
    pub console: String,
    /// What it wrote before it had one, and what the host had to say.
    pub early: String,
}

impl Ran {
    /// The number behind `key=` in the line of the console that begins with `line`.
    ///
    /// # Panics
    /// If there is no such line or number.
    #[must_use]
    pub fn number(&self, line: &str, key: &str) -> u64 {
        let found = self.console.lines().find(|candidate| candidate.starts_with(line));
        let words = found.unwrap_or_default().split_whitespace();
        let value = words.filter_map(|word| word.strip_prefix(key)?.strip_prefix('=')).next();
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {key} in {line:?} of {}", self.console))
    }

    /// Fails the test unless the guest powered off with status 0.
    ///
    /// # Panics
    /// With everything the guest said.
    pub fn expect_success(&self) {
        assert_eq!(self.report.end, End::PowerOff { code: 0 }, "console:\n{}\nhost:\n{}", self.console, self.early);
    }
}

impl Guest {
    /// A guest of one vCPU and 64 MiB with no devices.
    #[must_use]
    pub fn new(program: Program, cmdline: &str) -> Self {
        let (console, early) = (Sink::default(), Sink::default());
        let config = MachineConfig {
            program,
            cmdline: cmdline.into(),
            cpus: 1,
            memory: 64 << 20,
            window: 0,
            cpl: None,
            devices: Vec::new(),
            early_console: Box::new(early.clone()),
        };
        Self { config, console, early, deadline: DEADLINE }
    }

    /// With so many vCPUs.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.config.cpus = cpus;
        self
    }

    /// At this privilege level.
    #[must_use]
    pub fn cpl(mut self, cpl: u8) -> Self {
        self.config.cpl = Some(cpl);
        self
    }

    /// That may run so long.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// With so many bytes of memory.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.config.memory = bytes;
        self
    }

    /// With another device.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.config.devices.push(device);
        self
    }

    /// With a disk.
    #[must_use]
    pub fn disk(self, disk: Arc<dyn pvkit_backends::Disk>, label: &str) -> Self {
        self.device(Device::Block { disk, label: label.into() })
    }

    /// With a console whose input has ended.
    ///
    /// # Panics
    /// If there is no eventfd to be had.
    #[must_use]
    pub fn console(self) -> Self {
        let input = ConsoleInput::new(4096).unwrap_or_else(|error| panic!("console input: {error}"));
        input.end();
        let output = Arc::new(Mutex::new(self.console.clone()));
        self.device(Device::Console { output, input, columns: 80, rows: 25 })
    }

    /// What the guest has written to its console so far, for watchers.
    #[must_use]
    pub fn sink(&self) -> Sink {
        self.console.clone()
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// If it could not be started.
    ///
    /// # Panics
    /// If it did not end before the deadline.
    pub fn try_run(self) -> Result<Ran, MachineError> {
        self.try_run_with(&Control::new())
    }

    /// Runs it to its end, or until `control` stops it.
    ///
    /// # Errors
    /// If it could not be started.
    ///
    /// # Panics
    /// If it did not end before the deadline.
    pub fn try_run_with(self, control: &Arc<Control>) -> Result<Ran, MachineError> {
        let Self { config, console, early, deadline } = self;
        let (watched, (done, expired)) = (control.clone(), std::sync::mpsc::channel::<()>());
        let watchdog = std::thread::spawn(move || {
            let late = expired.recv_timeout(deadline) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
            if late {
                watched.stop();
            }
            late
        });
        let report = run(config, control);
        drop(done);
        let late = watchdog.join().unwrap_or(true);
        assert!(!late, "the guest did not end in {deadline:?}\nconsole:\n{}\nhost:\n{}", console.text(), early.text());
        Ok(Ran { report: report?, console: console.text(), early: early.text() })
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it could not be started, or did not end before the deadline.
    #[must_use]
    pub fn run(self) -> Ran {
        self.try_run().unwrap_or_else(|error| panic!("the guest could not be started: {error}"))
    }
}
