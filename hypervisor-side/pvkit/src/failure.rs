//! How a run of the program ends: exit codes, and errors printed with the chain of their causes.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// Exit status when the guest crashed.
pub const EXIT_CRASH: u8 = 101;
/// Exit status for the user's mistakes.
pub const EXIT_USER: u8 = 2;
/// Exit status when the run failed.
pub const EXIT_RUN: u8 = 1;

/// Whose fault a failure is; decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// A mistake on the command line or in a file that it names.
    User,
    /// Everything else.
    Run,
    /// Ended by this signal.
    Signal(i32),
}

/// Why the program ends without having done its work.
#[derive(Debug)]
pub struct Failure {
    blame: Blame,
    error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// The user can put it right.
    pub fn user(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { blame: Blame::User, error: error.into() }
    }

    /// Something failed on the way.
    pub fn run(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { blame: Blame::Run, error: error.into() }
    }

    /// A signal ended it.
    #[must_use]
    pub fn signal(signal: i32) -> Self {
        Self { blame: Blame::Signal(signal), error: format!("ended by signal {signal}").into() }
    }

    /// Puts a sentence before the error, which becomes its cause.
    #[must_use]
    pub fn while_doing(self, sentence: impl Into<String>) -> Self {
        Self { blame: self.blame, error: Box::new(Step { sentence: sentence.into(), cause: self.error }) }
    }

    /// The program's exit status.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.blame {
            Blame::User => EXIT_USER,
            Blame::Run => EXIT_RUN,
            Blame::Signal(signal) => signal_status(signal),
        })
    }
}

/// Exit status after a signal, as shells count it.
#[must_use]
pub fn signal_status(signal: i32) -> u8 {
    u8::try_from(signal).unwrap_or(0).saturating_add(128)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        let mut cause = self.error.source();
        while let Some(error) = cause {
            write!(f, "\n  because: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// What was being done when the cause came up.
#[derive(Debug)]
struct Step {
    sentence: String,
    cause: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl Error for Step {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.cause.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_chain_is_printed() {
        let cause = std::io::Error::other("disk is gone");
        let failure = Failure::run(cause).while_doing("cannot read a").while_doing("cannot start");
        assert_eq!(failure.to_string(), "cannot start\n  because: cannot read a\n  because: disk is gone");
    }
}
