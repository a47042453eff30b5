//! Writes that the kernel acknowledged and then lost, while the daemon that made them was dying: the monitor hears of it by its
//! witness, and the guest does not go on as if nothing had happened.

mod guest;
mod journal;
mod one_file;

use fuser::BackgroundSession;
use guest::folder;
use journal::{Daemon, IN_PROCESS, Journal, Monitor, until};
use one_file::OneFile;
use pvkit_driver_domain::client::ANSWER;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A file system, if it can be had, and the word by which its syncs begin to fail.
fn mounted(folder: &Path) -> Option<(BackgroundSession, PathBuf, Arc<AtomicBool>)> {
    let loses = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&loses);
    let system = OneFile { syncs: Box::new(move || !asked.load(Ordering::SeqCst)), ..OneFile::default() };
    let (session, image) = system.mount(folder)?;
    Some((session, image, loses))
}

#[test]
fn what_was_lost_with_a_killed_daemon_takes_the_disk_from_the_guest() {
    let folder = folder("witness");
    let Some((session, image, loses)) = mounted(&folder) else { return };
    let socket = folder.join("backend.sock");
    let served = format!("path={}", image.display());
    let mut daemon = Daemon::start(&socket, &served);
    let journal = Journal::new();
    let disk = format!("backend={},id=log", socket.display());
    // It does not sync by itself: nobody but the witness is told.
    let mut monitor = Monitor::start(IN_PROCESS, &disk, "app=log mode=noflush batch=1", &journal);
    until("the guest writes", || journal.acked() > 8);
    // An honest death before, so that not every death takes the disk away.
    daemon.kill();
    daemon = Daemon::start(&socket, &served);
    let before = journal.acked();
    until("the guest goes on", || journal.acked() > before + 8);
    loses.store(true, Ordering::SeqCst);
    daemon.kill();
    daemon = Daemon::start(&socket, &served);
    until("the guest's end", || monitor.is_over());
    let ended = monitor.wait();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.says("error the device is gone"), "{ended:?}");
    assert!(ended.says("lost acknowledged writes (Input/output error"), "{ended:?}");
    daemon.kill();
    drop(session);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_medium_that_does_not_answer_is_named_and_its_guest_waits() {
    let folder = folder("witness-silent");
    // Whether syncs answer, and how many wait.
    let gate = Arc::new((Mutex::new((true, 0)), Condvar::new()));
    let way = Arc::clone(&gate);
    let syncs = Box::new(move || {
        let (state, changed) = &*way;
        let mut state = state.lock().unwrap();
        state.1 += 1;
        changed.notify_all();
        drop(changed.wait_while(state, |(is_open, _)| !*is_open).unwrap());
        true
    });
    let Some((session, image)) = (OneFile { syncs, ..OneFile::default() }).mount(&folder) else { return };
    let open = |is_open: bool| {
        *gate.0.lock().unwrap() = (is_open, 0);
        gate.1.notify_all();
    };
    let socket = folder.join("backend.sock");
    let served = format!("path={}", image.display());
    let mut daemon = Daemon::start(&socket, &served);
    let journal = Journal::new();
    let disk = format!("backend={},id=log", socket.display());
    let monitor = Monitor::start(IN_PROCESS, &disk, "app=log mode=noflush batch=1 count=64", &journal);
    until("the guest writes", || journal.acked() > 8);
    open(false);
    daemon.kill();
    until("the witness is asked", || gate.0.lock().unwrap().1 > 0);
    let kept = journal.acked();
    // Longer than it takes to say so.
    std::thread::sleep(ANSWER + Duration::from_secs(1));
    assert_eq!(journal.acked(), kept, "nobody writes to a disk of which nobody knows what it kept");
    open(true);
    daemon = Daemon::start(&socket, &served);
    let ended = monitor.wait();
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.says("wait for their medium"), "{ended:?}");
    assert_eq!(journal.acked(), 64);
    daemon.kill();
    drop(session);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_sync_that_fails_closes_the_disk_of_a_daemon_over_all_its_guests() {
    let folder = folder("witness-sync");
    let Some((session, image, loses)) = mounted(&folder) else { return };
    let socket = folder.join("backend.sock");
    let served = format!("path={}", image.display());
    let daemon = Daemon::start(&socket, &served);
    let journal = Journal::new();
    let disk = format!("backend={},id=log", socket.display());
    let live = |cmdline: &str| Monitor::start(IN_PROCESS, &disk, cmdline, &journal).wait();
    assert!(live("app=log count=3 mode=mix").status.success());
    loses.store(true, Ordering::SeqCst);
    let ended = live("app=log count=3 mode=flush");
    assert!(ended.says("error device answered IO_ERROR, detail 5"), "{ended:?}");
    // The medium is well again; what it lost is not.
    loses.store(false, Ordering::SeqCst);
    for mode in ["flush", "fua"] {
        let ended = live(&format!("app=log count=3 mode={mode} errors=retry"));
        assert!(ended.says("error device answered IO_ERROR, detail 5"), "{ended:?}");
    }
    assert!(live("app=check").status.success(), "reads go on");
    let log = daemon.end();
    assert!(log.contains("a sync of the disk failed (Input/output error"), "{log}");
    let daemon = Daemon::start(&socket, &served);
    assert!(live("app=log count=3 mode=mix").status.success(), "it was opened anew");
    assert_eq!(journal.acked(), 6);
    journal.assert_kept();
    daemon.end();
    drop(session);
    std::fs::remove_dir_all(folder).unwrap();
}
