//! A program under a hard limit of time, in a process group of its own that is ended by its id.
//!
//! Invariant: when `run` returns, nothing of the group lives. The leader is waited for without being reaped, so that its
//! id cannot name anything else while the group is ended. Output goes to a file: a forgotten grandchild cannot hold a pipe.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);
const GRACE: Duration = Duration::from_secs(3);
const FIRST_NEWS: Duration = Duration::from_secs(20);
const NEWS_INTERVAL: Duration = Duration::from_secs(30);

/// How a program ended.
#[derive(Debug)]
pub enum End {
    /// By itself.
    Exited(ExitStatus),
    /// At the deadline, by us.
    TimedOut,
    /// By the developer's Ctrl-C, or a SIGTERM to xtask.
    Interrupted,
}

/// Set by SIGINT and SIGTERM. The lanes' groups are not the terminal's, so the signal has to be passed on.
#[derive(Clone)]
pub struct Interruption(Arc<AtomicBool>);

impl Interruption {
    /// Catches both signals from now on.
    pub fn watch() -> io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    /// One that never comes.
    #[cfg(test)]
    pub fn none() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    /// Whether one came.
    pub fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs `command` with its output appended to the file `log`, until `deadline`; calls `news` now and then.
pub fn run(
    command: &mut Command,
    log: &Path,
    deadline: Instant,
    interruption: &Interruption,
    mut news: impl FnMut(Duration),
) -> io::Result<End> {
    let output = File::options().append(true).create(true).open(log)?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
    let mut child = command.spawn()?;
    let started = Instant::now();
    let mut next_news = FIRST_NEWS;
    while !has_ended(&child)? {
        if Instant::now() >= deadline {
            return end(&mut child).map(|_| End::TimedOut);
        }
        if interruption.came() {
            return end(&mut child).map(|_| End::Interrupted);
        }
        if started.elapsed() >= next_news {
            news(started.elapsed());
            next_news += NEWS_INTERVAL;
        }
        sleep(POLL);
    }
    kill_group(&child);
    child.wait().map(End::Exited)
}

/// True once the leader has ended; it stays unreaped, and so its id stays its own.
fn has_ended(child: &Child) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(waitid(WaitId::Pid(Pid::from_child(child)), options)?.is_some())
}

/// Asks the group to leave, then ends it.
fn end(child: &mut Child) -> io::Result<ExitStatus> {
    // An error here means that the group is empty already, which is the goal.
    let _ = kill_process_group(Pid::from_child(child), Signal::TERM);
    let patience = Instant::now() + GRACE;
    while Instant::now() < patience && !has_ended(child)? {
        sleep(POLL);
    }
    kill_group(child);
    child.wait()
}

fn kill_group(child: &Child) {
    // As above: an empty group is the goal.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("xtask-child-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    fn shell(script: &str, log: &Path, limit: Duration, interruption: &Interruption) -> End {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(&mut command, log, Instant::now() + limit, interruption, |_| {}).expect("sh starts")
    }

    fn alive(process: &str) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    }

    #[test]
    fn the_status_and_the_output_of_a_program_are_kept() {
        let log = log("status");
        let end = shell("echo out; echo err >&2; exit 3", &log, Duration::from_secs(60), &Interruption::none());
        assert!(matches!(end, End::Exited(status) if status.code() == Some(3)), "{end:?}");
        assert_eq!(std::fs::read_to_string(&log).expect("log"), "out\nerr\n");
        std::fs::remove_file(log).expect("removed");
    }

    #[test]
    fn a_program_past_its_limit_is_ended_with_all_its_children() {
        let log = log("limit");
        let end = shell("sleep 1000 & echo $!; wait", &log, Duration::from_millis(300), &Interruption::none());
        assert!(matches!(end, End::TimedOut), "{end:?}");
        let grandchild = std::fs::read_to_string(&log).expect("log");
        while alive(grandchild.trim()) {
            sleep(POLL); // As in the test of the forgotten process.
        }
        std::fs::remove_file(log).expect("removed");
    }

    #[test]
    fn a_program_that_ignores_the_polite_signal_is_ended_as_well() {
        let log = log("stubborn");
        let end = shell(
            "trap '' TERM; echo $$; while :; do sleep 1; done",
            &log,
            Duration::from_millis(300),
            &Interruption::none(),
        );
        assert!(matches!(end, End::TimedOut), "{end:?}");
        let stubborn = std::fs::read_to_string(&log).expect("log");
        assert!(!alive(stubborn.trim()), "process {stubborn} survived");
        std::fs::remove_file(log).expect("removed");
    }

    #[test]
    fn a_forgotten_background_process_does_not_outlive_its_lane() {
        let log = log("forgotten");
        let end = shell("sleep 1000 & echo $!", &log, Duration::from_secs(60), &Interruption::none());
        assert!(matches!(end, End::Exited(status) if status.success()), "{end:?}");
        let forgotten = std::fs::read_to_string(&log).expect("log");
        while alive(forgotten.trim()) {
            sleep(POLL); // SIGKILL is sent; the kernel needs a moment. A survivor hangs here until the lane's limit.
        }
        std::fs::remove_file(log).expect("removed");
    }

    #[test]
    fn an_interruption_ends_the_running_program() {
        let log = log("interrupted");
        let interruption = Interruption::none();
        interruption.0.store(true, Ordering::Relaxed);
        let end = shell("sleep 1000", &log, Duration::from_secs(60), &interruption);
        assert!(matches!(end, End::Interrupted), "{end:?}");
        std::fs::remove_file(log).expect("removed");
    }
}
