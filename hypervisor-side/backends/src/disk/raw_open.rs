//! Opening an image: every way in which that goes wrong has a name and a remedy.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use pvkit_abi::block::{MAX_BLOCK, MIN_BLOCK};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How to open an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawOptions {
    /// Refuse writes, and share the image with other readers.
    pub read_only: bool,
    /// Logical block in bytes: a power of two, 512 to 65536.
    pub block_size: u32,
    /// Serial, at most 32 bytes; the rest is cut.
    pub serial: String,
}

impl Default for RawOptions {
    fn default() -> Self {
        Self { read_only: false, block_size: 512, serial: String::new() }
    }
}

/// Why an image cannot be used as a disk.
#[derive(Debug)]
pub enum OpenError {
    /// There is no such file.
    Missing(PathBuf),
    /// It is neither a regular file nor a block device.
    NotADisk(PathBuf),
    /// It can be read and not written, and read-write was asked for.
    ReadOnlyImage(PathBuf),
    /// It cannot even be read.
    Denied(PathBuf),
    /// Another process has locked it.
    Locked {
        /// The image.
        path: PathBuf,
        /// Whether read-only was asked for, so that the other one must be a writer.
        read_only: bool,
    },
    /// It is empty.
    Empty(PathBuf),
    /// Its size is not a whole number of blocks.
    Misaligned {
        /// The image.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The block size asked for.
        block_size: u32,
    },
    /// The block size asked for is not one.
    BlockSize(u32),
    /// Something else went wrong.
    Io {
        /// The image.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(path) => {
                let path = path.display();
                write!(f, "image {path} does not exist; check the path, or make one: truncate -s 64M {path}")
            }
            Self::NotADisk(path) => {
                write!(f, "{} is neither a regular file nor a block device; name a raw image", path.display())
            }
            Self::ReadOnlyImage(path) => write!(
                f,
                "image {} cannot be opened for writing; add readonly=on, or make it writable for this user",
                path.display()
            ),
            Self::Denied(path) => {
                write!(
                    f,
                    "image {} cannot be opened: permission denied; make it readable for this user",
                    path.display()
                )
            }
            Self::Locked { path, read_only: false } => write!(
                f,
                "image {} is in use by another guest; stop that one, use a copy, or open it with readonly=on in both",
                path.display()
            ),
            Self::Locked { path, read_only: true } => {
                write!(f, "image {} is being written by another guest; stop that one or use a copy", path.display())
            }
            Self::Empty(path) => {
                let path = path.display();
                write!(f, "image {path} is empty; give it a size: truncate -s 64M {path}")
            }
            Self::Misaligned { path, size, block_size } => {
                let round = size.next_multiple_of(u64::from(*block_size));
                let path = path.display();
                write!(
                    f,
                    "image {path} has {size} bytes, which is not a multiple of the block size {block_size}; if it is a \
                     raw image, round it up: truncate -s {round} {path}"
                )
            }
            Self::BlockSize(size) => {
                write!(f, "block size {size} is not a power of two between {MIN_BLOCK} and {MAX_BLOCK}")
            }
            Self::Io { path, doing, error } => write!(f, "image {}: {doing} failed: {error}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Opens, checks and locks; answers the file and its size.
pub(super) fn open(path: &Path, options: &RawOptions) -> Result<(File, u64), OpenError> {
    let block_size = options.block_size;
    if !block_size.is_power_of_two() || !(MIN_BLOCK..=MAX_BLOCK).contains(&block_size) {
        return Err(OpenError::BlockSize(block_size));
    }
    let file = open_file(path, options.read_only)?;
    check_type(path, &file)?;
    lock(path, &file, options.read_only)?;
    let size = size_of(&file).map_err(|error| io_error(path, "asking for the size", error))?;
    if size == 0 {
        return Err(OpenError::Empty(path.to_owned()));
    }
    if !size.is_multiple_of(u64::from(block_size)) {
        return Err(OpenError::Misaligned { path: path.to_owned(), size, block_size });
    }
    Ok((file, size))
}

/// Size in bytes, of a block device too.
pub(super) fn size_of(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

fn io_error(path: &Path, doing: &'static str, error: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), doing, error }
}

fn open_file(path: &Path, read_only: bool) -> Result<File, OpenError> {
    let open = |write| {
        // NONBLOCK: the open of a FIFO must not wait for its other end. It means nothing for files and block devices.
        OpenOptions::new().read(true).write(write).custom_flags(libc::O_NONBLOCK).open(path)
    };
    open(!read_only).map_err(|error| match error.kind() {
        ErrorKind::NotFound => OpenError::Missing(path.to_owned()),
        ErrorKind::IsADirectory => OpenError::NotADisk(path.to_owned()),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem if !read_only && open(false).is_ok() => {
            OpenError::ReadOnlyImage(path.to_owned())
        }
        ErrorKind::PermissionDenied => OpenError::Denied(path.to_owned()),
        _ => match error.raw_os_error() {
            // A socket, or a device without a driver.
            Some(libc::ENXIO | libc::ENODEV) => OpenError::NotADisk(path.to_owned()),
            _ => io_error(path, "opening", error),
        },
    })
}

fn check_type(path: &Path, file: &File) -> Result<(), OpenError> {
    let kind = file.metadata().map_err(|error| io_error(path, "asking for the type", error))?.file_type();
    if kind.is_file() || kind.is_block_device() { Ok(()) } else { Err(OpenError::NotADisk(path.to_owned())) }
}

/// Locks the whole file for this open description. In-flight I/O keeps the description, and so the lock, alive.
fn lock(path: &Path, file: &File, read_only: bool) -> Result<(), OpenError> {
    let kind = if read_only { libc::F_RDLCK } else { libc::F_WRLCK };
    // Start 0 and length 0: the whole file, however it grows.
    let whole = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole)) {
        Ok(_) => Ok(()),
        Err(Errno::EAGAIN | Errno::EACCES) => Err(OpenError::Locked { path: path.to_owned(), read_only }),
        Err(error) => Err(io_error(path, "locking", error.into())),
    }
}
