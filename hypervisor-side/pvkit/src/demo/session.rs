//! One guest of the demo: this same program as a child process, its console read line by line.

use super::leash::{Leash, LeashError};
use super::say::say;
use super::web::Client;
use crate::cli::Mutant;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// How long a guest may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// The same at CPL 0, which a KVM without the processor's help emulates at a microsecond per instruction.
const SILENCE_CPL0: Duration = Duration::from_secs(300);
/// Longest console line that is looked at.
const MAX_LINE: u64 = 64 * 1024;

/// What all guests of one demo have in common.
#[derive(Debug)]
pub struct Guest {
    /// The image, on KVM; without one it is the in-process machine.
    pub kernel: Option<PathBuf>,
    /// Privilege level, if asked for.
    pub cpl: Option<u8>,
    /// A backend that lies, if asked for.
    pub mutant: Option<Mutant>,
    /// The first disk, read-only.
    pub documents: PathBuf,
    /// The second disk.
    pub log: PathBuf,
    /// Where counters are written.
    pub stats: PathBuf,
    /// Where it is written which port of this machine leads to the guest.
    pub published: PathBuf,
    /// That port; 0: a free one.
    pub port: u16,
}

/// Why a guest's console could not be followed to its end.
#[derive(Debug)]
pub enum SessionError {
    /// The process could not be started or waited for.
    Process(LeashError),
    /// Nothing came for this long.
    Silent(Duration),
    /// The console ended before this came.
    Ended { expected: &'static str, status: Option<ExitStatus> },
    /// The guest itself reports an error.
    Status(ExitStatus),
    /// It is not known where its web server is.
    Port(String),
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(_) => write!(f, "the guest's process failed"),
            Self::Silent(time) => write!(f, "the guest was silent for {} s and was ended", time.as_secs()),
            Self::Ended { expected, status: Some(status) } => {
                write!(f, "the guest ended ({status}) before its console said `{expected}`; its messages are above")
            }
            Self::Ended { expected, status: None } => {
                write!(f, "the guest's console ended before it said `{expected}`")
            }
            Self::Port(told) => write!(f, "no port of this machine is told to lead to the guest, but {told:?}"),
            Self::Status(status) => write!(f, "the guest ended with {status}; its messages are above"),
        }
    }
}

impl std::error::Error for SessionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Process(error) => Some(error),
            _ => None,
        }
    }
}

impl From<LeashError> for SessionError {
    fn from(error: LeashError) -> Self {
        Self::Process(error)
    }
}

/// A guest that runs.
#[derive(Debug)]
pub struct Session<'a> {
    leash: &'a Leash,
    lines: Receiver<String>,
    patience: Duration,
}

impl<'a> Session<'a> {
    /// Boots the guest with a command line.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn start(guest: &Guest, leash: &'a Leash, cmdline: &str) -> Result<Self, SessionError> {
        let mut command = guest.command(cmdline).map_err(LeashError::Start)?;
        let output = leash.start(&mut command, |child| child.stdout.take())?;
        let output = output.ok_or_else(|| LeashError::Start(io::Error::other("its console is not connected")))?;
        let (sender, lines) = mpsc::channel();
        // Ends with the pipe, that is with the child.
        thread::spawn(move || {
            let mut reader = BufReader::new(output);
            while let Some(line) = whole_line(&mut reader) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let patience = if guest.cpl == Some(0) { SILENCE_CPL0 } else { SILENCE };
        Ok(Self { leash, lines, patience })
    }

    /// Boots the guest as a web server; with a client of it, once it serves.
    ///
    /// # Errors
    /// As for [`Session::start`] and [`Session::expect`]; or its port is not told.
    pub fn serve(guest: &Guest, leash: &'a Leash, mode: &str) -> Result<(Self, Client), SessionError> {
        let session = Self::start(guest, leash, &format!("app=web{mode}"))?;
        session.expect("web ready", |line| line.starts_with("web ready").then_some(()))?;
        let told = std::fs::read_to_string(&guest.published).map_err(LeashError::Start)?;
        let host =
            told.split_whitespace().find_map(|word| word.parse().ok()).ok_or(SessionError::Port(told.clone()))?;
        let client = Client::new(host, session.patience);
        Ok((session, client))
    }

    /// The next whole line of the console; `None` at its end.
    ///
    /// # Errors
    /// The guest is silent for too long.
    pub fn line(&self) -> Result<Option<String>, SessionError> {
        match self.lines.recv_timeout(self.patience) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                self.leash.kill();
                let _ = self.leash.wait(self.patience);
                Err(SessionError::Silent(self.patience))
            }
        }
    }

    /// The next line that `wanted` understands; others are shown, being the guest's own words.
    ///
    /// # Errors
    /// The guest is silent for too long, or ends.
    pub fn expect<T>(
        &self,
        expected: &'static str,
        mut wanted: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, SessionError> {
        while let Some(line) = self.line()? {
            match wanted(&line) {
                Some(found) => return Ok(found),
                // What was negotiated is shown once, by the host.
                None if line.starts_with("negotiated ") => {}
                None => say(format_args!("  guest: {line}")),
            }
        }
        Err(SessionError::Ended { expected, status: self.leash.wait(self.patience).ok() })
    }

    /// Waits as long as the guest runs; what it says is shown.
    ///
    /// # Errors
    /// It ends, however it does.
    pub fn stay(self) -> Result<(), SessionError> {
        for line in &self.lines {
            say(format_args!("  guest: {line}"));
        }
        Err(SessionError::Status(self.leash.wait(self.patience)?))
    }

    /// Waits for the end of a process that was killed.
    ///
    /// # Errors
    /// The process does not go.
    pub fn gone(self) -> Result<(), SessionError> {
        self.leash.wait(self.patience)?;
        Ok(())
    }

    /// Asks the process to end the guest, which shuts down in good order, and waits for it.
    ///
    /// # Errors
    /// It does not end, or ends with an error.
    pub fn stop(self) -> Result<(), SessionError> {
        self.leash.ask();
        match self.leash.wait(self.patience)? {
            status if status.success() => Ok(()),
            status => Err(SessionError::Status(status)),
        }
    }
}

impl Guest {
    fn command(&self, cmdline: &str) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["run", "--die-with", &std::process::id().to_string(), "--memory", "128M", "--cmdline", cmdline]);
        match &self.kernel {
            Some(kernel) => command.arg("--kernel").arg(kernel),
            None => command.args(["--machine", "in-process"]),
        };
        if let Some(cpl) = self.cpl {
            command.args(["--cpl", &cpl.to_string()]);
        }
        if self.mutant == Some(Mutant::BackendNoflush) {
            command.args(["--mutant", "backend-noflush"]);
        }
        command.arg("--disk").arg(disk(&self.documents, "readonly=on,serial=documents"));
        command.arg("--disk").arg(disk(&self.log, "cache=volatile,serial=log"));
        command.args(["--net", "user", "--publish", &format!("{}:80", self.port)]);
        command.arg("--published-file").arg(&self.published);
        command.arg("--stats-file").arg(&self.stats);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(command)
    }
}

fn disk(path: &Path, more: &str) -> String {
    format!("path={},format=raw,{more}", path.display())
}

/// A line with its end; what a killed guest left unfinished is not one.
fn whole_line(reader: &mut impl BufRead) -> Option<String> {
    let mut bytes = Vec::new();
    reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes).ok()?;
    if bytes.pop() != Some(b'\n') {
        return None;
    }
    Some(String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_line_is_not_a_line() {
        let mut reader = BufReader::new(&b"acked 1\r\nacked 12"[..]);
        assert_eq!(whole_line(&mut reader).as_deref(), Some("acked 1"));
        assert_eq!(whole_line(&mut reader), None);
    }
}
