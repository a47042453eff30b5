//! The demo's child processes, so that a signal can end whichever runs now.

use crate::guard;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often an unfinished child is asked.
const POLL: Duration = Duration::from_millis(5);

/// Starts children and can end the one that runs.
#[derive(Clone, Debug, Default)]
pub struct Leash(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Once cut, nothing is started any more.
    cut: bool,
    child: Option<Child>,
}

/// Why a child did not end as it should.
#[derive(Debug)]
pub enum LeashError {
    /// It could not be started or waited for.
    Start(io::Error),
    /// A signal ended the demo.
    Cut,
    /// It took longer than this and was ended.
    TooLong(Duration),
}

impl std::fmt::Display for LeashError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start(_) => write!(f, "a process of the demo cannot be started"),
            Self::Cut => write!(f, "the demo was interrupted"),
            Self::TooLong(time) => write!(f, "it did not end within {} s and was ended", time.as_secs()),
        }
    }
}

impl std::error::Error for LeashError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start(error) => Some(error),
            Self::Cut | Self::TooLong(_) => None,
        }
    }
}

impl Leash {
    /// Ends the child that runs, now and for ever: later ones are not started.
    pub fn cut(&self) {
        let mut state = self.state();
        state.cut = true;
        if let Some(child) = &mut state.child {
            end(child);
        }
    }

    /// Starts the one child; an earlier one must have been waited for.
    ///
    /// # Errors
    /// The leash is cut, or the program cannot be started.
    pub fn start<T>(&self, command: &mut Command, take: impl FnOnce(&mut Child) -> T) -> Result<T, LeashError> {
        let mut state = self.state();
        if state.cut {
            return Err(LeashError::Cut);
        }
        let mut child = command.spawn().map_err(LeashError::Start)?;
        let taken = take(&mut child);
        state.child = Some(child);
        Ok(taken)
    }

    /// Ends the child at once, as the power would.
    pub fn kill(&self) {
        if let Some(child) = &mut self.state().child {
            let _ = child.kill();
        }
    }

    /// Asks the child to end.
    pub fn ask(&self) {
        if let Some(child) = &mut self.state().child {
            end(child);
        }
    }

    /// Waits for the child; ends it when `patience` is over.
    ///
    /// # Errors
    /// It took too long, or the leash was cut.
    pub fn wait(&self, patience: Duration) -> Result<ExitStatus, LeashError> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return if self.state().cut { Err(LeashError::Cut) } else { Ok(status) };
            }
            if Instant::now() >= deadline {
                self.kill();
                return Err(LeashError::TooLong(patience));
            }
            thread::sleep(POLL);
        }
    }

    /// Runs a foreign program under guard, from start to end.
    ///
    /// # Errors
    /// As [`Leash::start`] and [`Leash::wait`].
    pub fn run_guarded(
        &self,
        program: &str,
        patience: Duration,
        prepare: impl FnOnce(&mut Command),
    ) -> Result<ExitStatus, LeashError> {
        let mut command = guard::guarded(program).map_err(LeashError::Start)?;
        prepare(&mut command);
        self.start(&mut command, |_| ())?;
        self.wait(patience)
    }

    fn ended(&self) -> Result<Option<ExitStatus>, LeashError> {
        let mut state = self.state();
        let Some(child) = &mut state.child else { return Err(LeashError::Cut) };
        let status = child.try_wait().map_err(LeashError::Start)?;
        if status.is_some() {
            state.child = None;
        }
        Ok(status)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guard ends its whole group when asked to; a guest's process just ends.
fn end(child: &mut Child) {
    let asked = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let told = asked.is_some_and(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok());
    if !told {
        let _ = child.kill();
    }
}
