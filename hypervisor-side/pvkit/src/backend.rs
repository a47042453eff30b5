//! `pvkit backend`: the daemon, from the command line to its end.

use crate::cli::{BackendOptions, Cache, DiskFormat, DiskOption, ServedKind};
use crate::devices;
use crate::failure::Failure;
use crate::{activation, mutant, sandbox, signals};
use pvkit_backends::disk::OpenError;
use pvkit_backends::net::user::UserOptions;
use pvkit_backends::{Disk, NullDisk};
use pvkit_driver_domain::PacketSocket;
use pvkit_driver_domain::client::{self, BackendError};
use pvkit_driver_domain::daemon::{Daemon, Export, ExportKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a predecessor that was killed may take to let go of an image: it is dead when its last write is done.
const PREDECESSOR: Duration = Duration::from_secs(30);

/// Serves until a signal.
///
/// # Errors
/// What the command line names cannot be had, or the socket fails.
pub fn backend(options: &BackendOptions) -> Result<ExitCode, Failure> {
    let count = options.disks.len() + options.nets.len();
    if count == 0 {
        return Err(Failure::user(
            "nothing to serve; name at least one device: --disk id=NAME,path=FILE or --net tap,id=NAME",
        ));
    }
    if options.replace {
        let socket = options.socket.as_deref();
        replace(
            socket
                .ok_or_else(|| Failure::user("--replace needs the socket of the other; give it with --socket PATH"))?,
        )?;
    }
    let mut exports: BTreeMap<String, Arc<Export>> = BTreeMap::new();
    let mut add = |id: &str, export| match exports.insert(id.to_owned(), export) {
        Some(_) => Err(Failure::user(format!("two devices are called {id}; give each a name of its own"))),
        None => Ok(()),
    };
    for option in &options.disks {
        let id = option
            .id
            .clone()
            .ok_or_else(|| Failure::user("a disk needs a name by which guests ask for it; add id=NAME"))?;
        add(&id, disk(option)?)?;
    }
    for net in &options.nets {
        add(&net.id, Export::new(net_kind(&net.kind)))?;
    }
    let listener = match activation::listener()? {
        Some(listener) => listener,
        None => {
            let socket = options.socket.as_deref();
            listen(socket.ok_or_else(|| Failure::user("no place to listen at; give one with --socket PATH"))?)?
        }
    };
    activation::ready();
    // The last moment with one thread and all rights.
    let enter = sandbox::lock_down(options)?;
    let daemon = Daemon::new(exports, Box::new(log), enter).map_err(Failure::run)?;
    let stop = Arc::clone(&daemon);
    signals::watch(signals::PATIENCE * 4, move || stop.stop()).map_err(Failure::run)?;
    let place = options
        .socket
        .as_ref()
        .map_or_else(|| "the service manager's socket".into(), |path| path.display().to_string());
    log(&format!("serving {} at {place}", counted(count)));
    daemon.serve(&listener).map_err(Failure::run)?;
    Ok(ExitCode::SUCCESS)
}

fn counted(devices: usize) -> String {
    if devices == 1 { "1 device".into() } else { format!("{devices} devices") }
}

fn net_kind(kind: &ServedKind) -> ExportKind {
    match kind {
        ServedKind::Tap => ExportKind::Tap,
        ServedKind::User { publish, allow_loopback } => ExportKind::User(UserOptions {
            allow_loopback: *allow_loopback,
            publish: publish.iter().map(|option| option.0).collect(),
            ..UserOptions::default()
        }),
    }
}

fn log(line: &str) {
    let _ = writeln!(io::stderr(), "pvkit backend: {line}");
}

fn disk(option: &DiskOption) -> Result<Arc<Export>, Failure> {
    let outlives = "a guest outlives a backend that is killed, and would find less than it was told";
    let (disk, witness): (Arc<dyn Disk>, _) = match (&option.format, option.cache) {
        (DiskFormat::Raw(path), Cache::Writeback) => {
            let disk = open_patiently(path, option)?;
            // A description of its own, opened before the first write; the lock is not this one's.
            (disk, Some(File::open(path).map_err(Failure::user)?))
        }
        (DiskFormat::Null(size), _) => (Arc::new(NullDisk::new(size.0)), None),
        (DiskFormat::Raw(_), Cache::Volatile) => {
            return Err(Failure::user(format!("cache=volatile keeps writes in the memory of the process: {outlives}")));
        }
        (DiskFormat::Ram(_), _) => {
            return Err(Failure::user(format!("format=ram keeps the disk in the memory of the process: {outlives}")));
        }
        (DiskFormat::Backend(socket), _) => {
            return Err(Failure::user(format!(
                "backend={}: a backend serves files, not another backend",
                socket.display()
            )));
        }
    };
    Ok(Export::new(ExportKind::Disk { disk, witness, shared: option.readonly }))
}

/// Opens an image, and waits for a predecessor that is dying to let go of it.
fn open_patiently(path: &Path, option: &DiskOption) -> Result<Arc<dyn Disk>, Failure> {
    let deadline = Instant::now() + PREDECESSOR;
    let mut told = false;
    loop {
        match mutant::open(path, &devices::raw_options(option), option.faults) {
            Ok(disk) => return Ok(disk),
            Err(error @ OpenError::Locked { .. }) if Instant::now() < deadline => {
                // One that was killed just now needs no line.
                if !told && Instant::now() + PREDECESSOR - deadline > Duration::from_millis(200) {
                    told = true;
                    log(&format!("{error}; waiting for at most {} s", PREDECESSOR.as_secs()));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(Failure::user(error)),
        }
    }
}

/// Has the daemon at `socket` leave in good order, if there is one.
fn replace(socket: &Path) -> Result<(), Failure> {
    let process = match client::process_of(socket) {
        Ok(process) => process,
        Err(BackendError::NoDaemon(_)) => return Ok(()),
        Err(error) => {
            return Err(Failure::user(error).while_doing(format!("{} is not to be replaced", socket.display())));
        }
    };
    let cannot = |error: io::Error| {
        Failure::user(error).while_doing(format!("the backend at {} cannot be asked to leave", socket.display()))
    };
    let process = process.ok_or_else(|| cannot(io::ErrorKind::PermissionDenied.into()))?;
    rustix::process::pidfd_send_signal(&process, rustix::process::Signal::TERM)
        .map_err(|error| cannot(error.into()))?;
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    let limit = Timespec { tv_sec: PREDECESSOR.as_secs() as i64, tv_nsec: 0 };
    match poll(&mut fds, Some(&limit)) {
        Ok(1..) => Ok(()),
        Ok(_) => Err(cannot(io::ErrorKind::TimedOut.into())),
        Err(error) => Err(cannot(error.into())),
    }
}

/// A socket at `path`. It stays there at the end: the right to remove it is given up, and a successor takes its place.
fn listen(path: &Path) -> Result<OwnedFd, Failure> {
    if let Ok(about) = fs::symlink_metadata(path) {
        if !about.file_type().is_socket() {
            return Err(Failure::user(format!("{} is there and no socket; name another place", path.display())));
        }
        if PacketSocket::connect(path).is_ok() {
            return Err(Failure::user(format!(
                "a backend that is alive listens at {}; name another place",
                path.display()
            )));
        }
        fs::remove_file(path).map_err(Failure::user)?;
    }
    let cannot = |error: io::Error| {
        Failure::user(error).while_doing(format!(
            "the socket {} cannot be made; check that its folder exists and is writable",
            path.display()
        ))
    };
    let listener = PacketSocket::listen(path).map_err(|error| cannot(error.into()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(cannot)?;
    Ok(listener)
}
