//! Runs one case for one user in one mode, and judges what became of it.

use crate::scene::{IMAGE, SECRET};
use crate::{Case, Expect, probe};
use pvkit_sandbox::Mode;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest life of the two processes of a case.
const LIMIT: Duration = Duration::from_secs(60);
/// `nobody`, on every distribution that we know.
const NOBODY: u32 = 65534;

/// As whom the processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// As whoever runs the tests.
    Ours,
    /// As a user without any rights.
    Ordinary,
}

impl User {
    /// Both if we are root, else we are ordinary ourselves.
    pub fn all() -> &'static [Self] {
        if nix::unistd::geteuid().is_root() { &[Self::Ours, Self::Ordinary] } else { &[Self::Ours] }
    }
}

impl User {
    /// The command runs as this user.
    pub fn becomes(self, command: &mut Command) {
        if self == Self::Ordinary {
            command.uid(NOBODY).gid(NOBODY);
        }
    }

    pub fn is_ordinary(self) -> bool {
        self == Self::Ordinary || !nix::unistd::geteuid().is_root()
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_ordinary() { "as_a_user" } else { "as_root" })
    }
}

/// A copy of this program where every user can run it; it vanishes with the last holder.
#[derive(Clone)]
pub struct Stage(Arc<TempDir>);

impl Stage {
    /// The copy.
    pub fn program(&self) -> PathBuf {
        self.0.path().join("attempts")
    }
}

impl Stage {
    pub fn new() -> io::Result<Self> {
        let folder = TempDir::with_prefix("pvkit-sandbox-")?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let stage = Self(Arc::new(folder));
        fs::copy(std::env::current_exe()?, stage.program())?;
        Ok(stage)
    }
}

/// What the processes said.
pub struct Told {
    text: String,
}

/// The claim of a case, or why it does not hold.
pub fn judge(stage: &Stage, case: &Case, user: User, mode: Mode) -> Result<(), String> {
    let told = play(stage, case, user, mode).map_err(|error| format!("the processes: {error}"))?;
    let expected = match mode {
        Mode::Strict => case.strict,
        Mode::Log => case.log,
        Mode::Off => Expect::Done,
    };
    let became = told.became().ok_or_else(|| format!("it said nothing that I know:\n{}", told.text))?;
    let fits = match expected {
        Expect::Killed => became == Became::Killed,
        Expect::Done => became == Became::Done,
        Expect::DoneOrFails(_) if became == Became::Done => true,
        Expect::Fails(errors) | Expect::DoneOrFails(errors) => {
            matches!(became, Became::Failed(error) if errors.contains(&error))
        }
    };
    let explained = mode != Mode::Off && became != Became::Wrong;
    match (fits, case.lacking) {
        (true, _) => Ok(()),
        (false, _) if explained && case.network_namespace && !probe::network_namespace(stage, user) => {
            skip(case.name, "network namespaces: this user gets none")
        }
        (false, _) if explained && probe::landlock() < case.landlock => {
            skip(case.name, &format!("landlock: ABI {} here, {} wanted", probe::landlock(), case.landlock))
        }
        (false, Some(why)) if mode == Mode::Off && matches!(became, Became::Failed(_)) => skip(case.name, why),
        _ => Err(format!("{expected:?} was expected and it became {became:?}:\n{}", told.text)),
    }
}

pub fn skip(what: &str, why: &str) -> Result<(), String> {
    println!("skipped: {what}: {why}");
    Ok(())
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Became {
    Killed,
    Done,
    Failed(i32),
    /// It was done, and its outcome was not what it must be; or the process panicked.
    Wrong,
}

impl Told {
    fn line(&self, start: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(start))
    }

    fn became(&self) -> Option<Became> {
        match (self.line("tried: "), self.line("ended: ")?) {
            (None, ended) if ended == format!("signal {}", libc::SIGSYS) => Some(Became::Killed),
            (Some("done"), "exit 0") => Some(Became::Done),
            (Some(tried), "exit 0") => match tried.strip_prefix("errno ") {
                Some(error) => error.split(' ').next()?.parse().ok().map(Became::Failed),
                None => Some(Became::Wrong),
            },
            _ => Some(Became::Wrong),
        }
    }
}

pub fn play(stage: &Stage, case: &Case, user: User, mode: Mode) -> io::Result<Told> {
    let folder = TempDir::with_prefix("pvkit-scene-")?;
    furnish(folder.path(), user)?;
    let output = folder.path().join("output");
    let file = File::create(&output)?;
    let mut command = Command::new(stage.program());
    command.args(["parent", case.name, &mode.to_string()]).current_dir(folder.path());
    // A panic on a worker looks around for its backtrace; that must not end the process.
    command.env("RUST_BACKTRACE", "1").stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
    user.becomes(&mut command);
    let mut child = command.spawn()?;
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > LIMIT {
            let group = nix::unistd::Pid::from_raw(child.id().cast_signed());
            nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL)?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, fs::read_to_string(&output)?));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(Told { text: fs::read_to_string(&output)? })
}

fn furnish(folder: &Path, user: User) -> io::Result<()> {
    fs::create_dir(folder.join("folder"))?;
    fs::write(folder.join("folder/file"), b"readable")?;
    fs::write(folder.join("secret"), SECRET)?;
    for image in ["image.raw", "readonly.raw"] {
        File::create(folder.join(image))?.set_len(IMAGE)?;
    }
    if user == User::Ordinary {
        for name in ["", "folder", "folder/file", "secret", "image.raw", "readonly.raw"] {
            chown(folder.join(name), Some(NOBODY), Some(NOBODY))?;
        }
    }
    Ok(())
}
