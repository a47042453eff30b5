//! The process-wide step: what comes after what.
//!
//! Namespaces come first, for a user namespace gives the capabilities that the others need; capabilities go when nothing needs
//! them any more; not being dumpable comes last, because a change of capabilities may undo it.

use crate::{Confinement, Mode, Outcome, Part, Report, SandboxError};
use crate::{capabilities, files, namespaces, process};
use std::fs;

/// What one part answers: what of it is in force, or why it is not.
pub(crate) type Attempt = Result<String, String>;

/// Gives up all that `confinement` does not keep, for this process, for ever. To be called on the only thread.
///
/// # Errors
/// See [`SandboxError`]. In [`Mode::Log`] only the caller's mistakes are errors; in [`Mode::Off`] nothing is, for nothing is done.
pub fn lock_down(confinement: &Confinement) -> Result<Report, SandboxError> {
    let mut applied = Applied { report: Report::new(confinement.mode) };
    if confinement.mode == Mode::Off {
        return Ok(applied.report);
    }
    only_thread()?;
    for (name, attempt) in namespaces::enter(confinement.network) {
        applied.where_allowed(name, attempt);
    }
    applied.must("no-new-privs", process::no_new_privs())?;
    applied.where_allowed("landlock", files::restrict(confinement)?);
    applied.where_allowed("bounding-set", capabilities::drop_bounding());
    applied.must("capabilities", capabilities::drop_all())?;
    applied.must("limits", process::limits(confinement))?;
    applied.must("undumpable", process::undumpable())?;
    Ok(applied.report)
}

struct Applied {
    report: Report,
}

impl Applied {
    fn where_allowed(&mut self, name: &'static str, attempt: Attempt) {
        let outcome = attempt.map_or_else(Outcome::Unavailable, Outcome::Applied);
        self.report.push(Part { name, outcome });
    }

    fn must(&mut self, name: &'static str, attempt: Attempt) -> Result<(), SandboxError> {
        match attempt {
            Err(reason) if self.report.mode() == Mode::Strict => Err(SandboxError::Part { name, reason }),
            attempt => {
                self.where_allowed(name, attempt);
                Ok(())
            }
        }
    }
}

/// Landlock and namespaces are the calling thread's: another one would stay outside.
fn only_thread() -> Result<(), SandboxError> {
    let reason = |error: std::io::Error| SandboxError::Part { name: "only-thread", reason: format!("/proc: {error}") };
    match fs::read_dir("/proc/self/task").map_err(reason)?.count() {
        1 => Ok(()),
        count => Err(SandboxError::Threads(count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_does_nothing_and_says_so() {
        let report = lock_down(&Confinement::new(Mode::Off)).unwrap();
        assert_eq!((report.mode(), report.parts()), (Mode::Off, &[][..]));
    }

    #[test]
    fn a_process_with_threads_is_refused() {
        // The test's own thread is the second one.
        let error = lock_down(&Confinement::new(Mode::Strict)).unwrap_err();
        assert!(matches!(error, SandboxError::Threads(count) if count >= 2), "{error}");
    }
}
