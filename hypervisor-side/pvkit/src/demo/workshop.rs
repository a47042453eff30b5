//! The demo's folder: products that are made anew by each run, and files without a name.
//!
//! *Invariants.* Nothing here has to be cleaned up: what has a name is a build product in the target folder, replaced
//! whole by the next run; what is of one run only has no name and goes with its last open descriptor. The lock is on
//! the folder itself and goes with the process.

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long another demo may take to make its products, a cold build among them.
const LOCK_PATIENCE: Duration = Duration::from_secs(600);

/// Where the demo works.
#[derive(Debug)]
pub struct Workshop {
    folder: PathBuf,
    root: Option<PathBuf>,
}

/// While it lives, no other demo makes products in the folder.
#[derive(Debug)]
pub struct Lock {
    _folder: File,
}

/// A file of this run, and the path by which a child process opens it.
#[derive(Debug)]
pub struct RunFile {
    /// The file itself.
    pub file: File,
    /// Opens the same file while this process holds it.
    pub path: PathBuf,
}

impl Workshop {
    /// The target folder of the source tree, or a folder of the user's own where the tree is gone.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open() -> io::Result<Self> {
        let root = source_root();
        let target = match (std::env::var_os("CARGO_TARGET_DIR"), &root) {
            (Some(folder), _) => std::path::absolute(folder)?,
            (None, Some(root)) => root.join("target"),
            (None, None) => std::env::temp_dir().join(format!("pvkit-{}", rustix::process::getuid().as_raw())),
        };
        let folder = target.join("demo");
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, root })
    }

    /// The source tree, if it is still where this program was built.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// A path in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The target folder of the guest image: a sibling, so that no build of the host ever waits for it.
    #[must_use]
    pub fn guest_target(&self) -> PathBuf {
        self.folder.with_file_name("guest")
    }

    /// Waits until no other demo makes products here.
    ///
    /// # Errors
    /// The other one takes longer than ten minutes, or the folder cannot be locked.
    pub fn lock(&self) -> io::Result<Lock> {
        let folder = File::open(&self.folder)?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { _folder: folder }),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// An empty folder for what tools leave behind when they are killed. Needs the lock: the next holder empties it.
    ///
    /// # Errors
    /// It cannot be made or emptied.
    pub fn scratch(&self, _lock: &Lock) -> io::Result<PathBuf> {
        let folder = self.path("scratch");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// A file without a name, of `length` zeros.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn unnamed(&self, length: u64) -> io::Result<RunFile> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&self.folder, flags, Mode::RUSR | Mode::WUSR) {
            Ok(descriptor) => File::from(descriptor),
            Err(_) => self.unlinked()?,
        };
        file.set_len(length)?;
        Ok(RunFile::of(file))
    }

    /// The same on file systems that know no unnamed files.
    fn unlinked(&self) -> io::Result<File> {
        let path = self.path(&format!("run-{}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    }

    /// A file with a name, of `length` zeros, for people who want to look at it afterwards.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn named(&self, name: &str, length: u64) -> io::Result<RunFile> {
        let path = self.path(name);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        file.set_len(length)?;
        Ok(RunFile { file, path })
    }
}

impl RunFile {
    /// Gives an open file a path for child processes, whatever has become of its name.
    #[must_use]
    pub fn of(file: File) -> Self {
        use std::os::fd::AsRawFd;
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into();
        Self { file, path }
    }
}

/// The workspace in which this program was built.
#[must_use]
pub fn source_root() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.parent()?;
    root.join("Cargo.toml").is_file().then(|| root.to_path_buf())
}
