//! The guests of these tests: the tiny image, built once, and what a machine must have to run it.
#![allow(dead_code, reason = "each test program uses its part")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The program under test.
pub const PVKIT: &str = env!("CARGO_BIN_EXE_pvkit");
const FREESTANDING: &str = "x86_64-unknown-none";
/// No wait of these tests is longer.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The program with a command line, without what `cargo test` put into its environment.
pub fn pvkit(arguments: &[&str]) -> Command {
    let mut command = Command::new(PVKIT);
    command.args(arguments).env_remove("CARGO_MANIFEST_DIR").stdin(Stdio::null());
    command
}

/// The tiny image, or `None` with a visible word about what is lacking.
pub fn tiny() -> Option<PathBuf> {
    images().map(|folder| folder.join("tiny"))
}

/// The demo's image, likewise.
pub fn unikernel() -> Option<PathBuf> {
    images().map(|folder| folder.join("unikernel"))
}

/// The folder of the guest images, built once, where KVM is there to run them.
pub fn images() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(build_images).as_deref()
}

fn build_images() -> Option<PathBuf> {
    if let Err(problem) = pvkit_machine::probe_kvm() {
        skip("kvm", &problem.to_string());
        return None;
    }
    if !has_freestanding_target() {
        skip(FREESTANDING, "rustup target add x86_64-unknown-none");
        return None;
    }
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("guest");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "unikernel-image", "--profile", "guest"])
        .args(["--target", FREESTANDING, "--target-dir"])
        .arg(&target_dir)
        .current_dir(workspace())
        .status()
        .unwrap();
    assert!(status.success(), "the guest images do not build");
    Some(target_dir.join(FREESTANDING).join("guest"))
}

fn has_freestanding_target() -> bool {
    let asked = ["--print", "target-libdir", "--target", FREESTANDING];
    let answer = Command::new("rustc").args(asked).current_dir(workspace()).output().unwrap();
    Path::new(String::from_utf8_lossy(&answer.stdout).trim()).is_dir()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Says, past the test runner, which would hold it back, that a test has not run for lack of `what`.
pub fn skip(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {what}: {why}");
}

/// A child that ends with the test, however that ends.
pub struct Leash(pub Child);

impl std::ops::Deref for Leash {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for Leash {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a line of a child's standard output that contains `wanted`.
pub fn wait_for_line(child: &mut Child, wanted: &str) -> String {
    let mut reader = BufReader::new(child.stdout.as_mut().unwrap());
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        let read = reader.read_line(&mut line).unwrap();
        seen.push_str(&line);
        if line.contains(wanted) {
            return line;
        }
        assert!(read > 0, "`{wanted}` never came, only: {seen}");
    }
}

/// Waits for a child's end, and fails the test if it does not come.
pub fn wait_for_end(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the process did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to a child of ours.
pub fn send(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// An empty folder of one test's own.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Processes that were started with `word` in their environment.
pub fn processes_with(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|part| part == word.as_bytes()) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// Waits until no process has `word` in its environment; what stays then is ended, so that only this test fails.
pub fn wait_for_none_with(word: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stay = processes_with(word);
        if stay.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            for pid in stay.iter().filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            panic!("these stay: {stay:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
