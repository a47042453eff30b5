//! A file system that gets full under a guest: it is told, nothing that was acknowledged is lost, and once there is space again the
//! log goes on.

mod guest;
mod journal;

use guest::{Leash, folder, skip};
use journal::{Daemon, Ended, IN_PROCESS, Journal, Monitor, check};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Of the image, which is sparse, and of the file system.
const IMAGE: u64 = 8 << 20;
const SPACE: &str = "size=512K";

/// A small file system in a mount namespace of its own, which is there as long as this is.
struct Small {
    holder: Leash,
    place: PathBuf,
}

impl Small {
    /// None, with a word about it, where an ordinary user may not mount.
    fn mount(folder: &Path) -> Option<Self> {
        let place = folder.join("small");
        fs::create_dir(&place).unwrap();
        let script = "mount -t tmpfs -o \"$2\" small \"$1\" && echo mounted && exec cat";
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(&place).arg(SPACE);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(child) = child else {
            skip("mount", "there is no program unshare");
            return None;
        };
        let mut holder = Leash(child);
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if line.trim() != "mounted" {
            skip("mount", "a tmpfs in a user namespace is refused here");
            return None;
        }
        let seen = format!("/proc/{}/root{}", holder.id(), place.display());
        Some(Self { holder, place: seen.into() })
    }

    /// A sparse image, and a file that takes half of the space.
    fn fill(&self) -> (PathBuf, PathBuf) {
        let image = journal::image(&self.place, IMAGE);
        let ballast = self.place.join("ballast");
        fs::write(&ballast, vec![1; 256 << 10]).unwrap();
        assert_eq!(File::open(&image).unwrap().metadata().unwrap().len(), IMAGE);
        (image, ballast)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Its input ends, and so does it, and with it the file system.
        drop(self.holder.stdin.take());
    }
}

/// The guest came to the end of the space: it was told, and nobody was killed for it.
fn was_told(ended: &Ended, journal: &Journal) {
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.says("error device answered NO_SPACE"), "{ended:?}");
    assert!(journal.failed() > 0 && journal.acked() > 0, "{ended:?}");
}

/// Lives that fill the file system, one after space was made, and one that only looks.
fn fills(folder: &Path, mode: &str, disk: impl Fn(&Path) -> (String, Option<Daemon>)) {
    let Some(small) = Small::mount(folder) else { return };
    let (image, ballast) = small.fill();
    let journal = Journal::new();
    let cmdline = format!("app=log batch=1 mode={mode} errors=retry");
    let (disk, daemon) = disk(&image);
    let live = |journal: &Arc<Journal>| Monitor::start(IN_PROCESS, &disk, &cmdline, journal).wait();
    was_told(&live(&journal), &journal);
    let full = journal.acked();
    // Again: nothing has changed, and nothing is lost.
    was_told(&live(&journal), &journal);
    assert_eq!(journal.acked(), full);
    fs::remove_file(ballast).unwrap();
    was_told(&live(&journal), &journal);
    assert!(journal.acked() > full, "there was space again, and it was not used: {full}");
    if let Some(daemon) = daemon {
        daemon.end();
    }
    journal.assert_kept();
    assert!(check(&image) >= journal.acked());
    println!("{mode}: {full} records, then {}; {} errors told", journal.acked(), journal.failed());
    drop(small);
}

fn local(words: &str) -> impl Fn(&Path) -> (String, Option<Daemon>) {
    move |image| (format!("path={}{words}", image.display()), None)
}

#[test]
fn a_full_file_system_is_told_and_loses_nothing() {
    for mode in ["flush", "fua", "mix"] {
        let folder = folder("full");
        fills(&folder, mode, local(""));
        fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn nor_does_it_under_a_volatile_cache() {
    let folder = folder("full-volatile");
    fills(&folder, "mix", local(",cache=volatile"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn nor_under_a_daemon_which_takes_writes_again_once_there_is_space() {
    let folder = folder("full-daemon");
    let socket = folder.join("backend.sock");
    fills(&folder, "mix", |image| {
        let daemon = Daemon::start(&socket, &format!("path={}", image.display()));
        (format!("backend={},id=log", socket.display()), Some(daemon))
    });
    fs::remove_dir_all(folder).unwrap();
}
