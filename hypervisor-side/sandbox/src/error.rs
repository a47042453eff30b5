//! Why a sandbox was not entered.

use std::fmt;
use std::path::PathBuf;

/// Why a sandbox was not entered. The process may be left with a part of it: it is to end.
#[derive(Debug)]
pub enum SandboxError {
    /// The caller's mistake: other threads run already, and would stay outside. How many there are, with this one.
    Threads(usize),
    /// The caller's mistake: a path of the list cannot be opened.
    Path {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The caller's mistake: this thread's role is not among those that the filters were made for.
    NoSuchRole(&'static str),
    /// The kernel refused a part that a strict sandbox must have.
    Part {
        /// The part's name in the report.
        name: &'static str,
        /// What the system said.
        reason: String,
    },
}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads(count) => {
                write!(f, "the sandbox is entered with {count} threads running; enter it before any is started")
            }
            Self::Path { path, reason } => write!(f, "the sandbox cannot allow {}: {reason}", path.display()),
            Self::NoSuchRole(role) => {
                write!(f, "no filter was made for {role} threads; name the role when making filters")
            }
            Self::Part { name, reason } => write!(
                f,
                "the kernel refused {name}: {reason}; a strict sandbox needs it, one in log mode goes on without"
            ),
        }
    }
}

impl std::error::Error for SandboxError {}
