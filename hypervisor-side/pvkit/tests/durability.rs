//! A log, and whoever stands between it and the medium killed at random: what was acknowledged is there, each time.
//!
//! The long form: `PVKIT_KILLS=500`, with any `PVKIT_SEED`.

mod guest;
mod journal;

use guest::folder;
use journal::{Daemon, IN_PROCESS, Journal, Machine, Monitor, Random, check, image, kills, pause, until};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Room for more records than any of these tests writes.
const BYTES: u64 = 64 << 20;

/// Once all is over: nothing was lost on the way, and what was acknowledged stands in the image.
fn stands(journal: &Journal, image: &Path, kills: u64, what: &str) {
    journal.assert_kept();
    let (acked, found) = (journal.acked(), check(image));
    assert!(found >= acked, "{acked} were acknowledged, {found} are there");
    assert!(acked > kills, "only {acked} records in {kills} lives: nothing was at stake");
    println!("{what}: {kills} kills, {acked} records acknowledged in {} lives, all there", journal.lives());
}

/// The monitor dies, and with it guest, backend and cache.
fn monitors_die(name: &str, machine: Machine<'_>, kills: u64) {
    let folder = folder(name);
    let image = image(&folder, BYTES);
    let disk = format!("path={},cache=volatile", image.display());
    let (journal, mut random) = (Journal::new(), Random::new());
    for life in 0..kills {
        let monitor = Monitor::start(machine, &disk, "app=log mode=mix batch=1", &journal);
        let before = journal.acked();
        until("a record is acknowledged", || journal.acked() > before);
        pause(&mut random, if life % 2 == 0 { 5 } else { 50 });
        let ended = monitor.kill();
        assert!(ended.log.is_empty(), "{}", ended.log);
    }
    assert_eq!(journal.failed(), 0);
    stands(&journal, &image, kills, name);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_killed_monitor_loses_no_acknowledged_record_of_a_volatile_cache() {
    monitors_die("monitors", IN_PROCESS, kills(20));
}

#[test]
fn nor_does_one_of_a_guest_on_kvm() {
    let Some(kernel) = guest::unikernel() else { return };
    monitors_die("monitors-kvm", &["--kernel", kernel.to_str().unwrap()], kills(20) / 2);
}

/// Records of a log whose guest resets itself: a monitor makes the pauses between many short lives longer and longer.
const RECORDS: u64 = 96;

/// The guest alone dies, by resetting itself with a record half done; its monitor and the cache live on.
fn guests_die(name: &str, machine: Machine<'_>, rounds: u64) {
    let mut random = Random::new();
    for _ in 0..rounds.max(1) {
        let folder = folder(name);
        let image = image(&folder, RECORDS * 512);
        let disk = format!("path={},cache=volatile", image.display());
        let journal = Journal::new();
        let cmdline = format!("app=log mode=mix batch=1 reset={}", 1 + random.below(1 << 30));
        let ended = Monitor::start(machine, &disk, &cmdline, &journal).wait();
        assert!(ended.status.success(), "{}", ended.log);
        assert_eq!((journal.acked(), journal.failed()), (RECORDS, 0));
        let resets = journal.lives() - 1;
        // Each life adds 25 records at most.
        assert!(resets >= RECORDS / 25, "{resets} resets");
        stands(&journal, &image, resets, name);
        fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn a_guest_that_is_reset_finds_what_it_acknowledged() {
    guests_die("resets", IN_PROCESS, kills(20) / 5);
}

#[test]
fn so_does_one_on_kvm() {
    let Some(kernel) = guest::unikernel() else { return };
    guests_die("resets-kvm", &["--kernel", kernel.to_str().unwrap()], kills(20) / 10);
}

/// Any of the three dies, as chance has it: the daemon under a guest that goes on, the monitor with the guest, the guest.
fn anybody_dies(name: &str, machine: Machine<'_>, kills: u64) {
    let folder = folder(name);
    let (image, socket) = (image(&folder, BYTES), folder.join("backend.sock"));
    let (served, disk) = (format!("path={}", image.display()), format!("backend={},id=log", socket.display()));
    let (journal, mut random) = (Journal::new(), Random::new());
    let mut daemon = Daemon::start(&socket, &served);
    let mut monitor = new_life(machine, &disk, &journal);
    let (mut daemons, mut monitors) = (0, 0);
    let resets = |monitors| journal.lives().saturating_sub(monitors + 1);
    // All three must have died, however slow the machine is.
    while daemons + monitors < kills || daemons == 0 || monitors == 0 || resets(monitors) == 0 {
        assert!(daemons + monitors < kills * 20, "{daemons} daemons, {monitors} monitors, {} guests", resets(monitors));
        pause(&mut random, 400);
        assert!(!monitor.is_over(), "{:?}", monitor.wait());
        let which = random.below(3);
        if which == 0 {
            daemon.kill();
            daemon = Daemon::start(&socket, &served);
        } else if which == 1 {
            monitor.kill();
            monitor = new_life(machine, &disk, &journal);
        } else {
            daemon.kill();
            monitor.kill();
            daemon = Daemon::start(&socket, &served);
            monitor = new_life(machine, &disk, &journal);
        }
        daemons += u64::from(which != 1);
        monitors += u64::from(which != 0);
    }
    let before = journal.acked();
    assert!(!monitor.is_over(), "{:?}", monitor.wait());
    until("it works after the last one", || {
        assert!(!monitor.is_over(), "it is over");
        journal.acked() > before
    });
    monitor.kill();
    daemon.end();
    assert_eq!(journal.failed(), 0, "a guest was told of an error, and there was none");
    let what = format!("{name}: {daemons} daemons, {monitors} monitors, {} guests", resets(monitors));
    stands(&journal, &image, daemons + monitors, &what);
    fs::remove_dir_all(folder).unwrap();
}

/// A monitor whose guest has begun. A daemon may still be giving the disk free of the last one.
fn new_life(machine: Machine<'_>, disk: &str, journal: &Arc<Journal>) -> Monitor {
    let lives = journal.lives();
    loop {
        let mut monitor = Monitor::start(machine, disk, "app=log mode=mix batch=1 reset=5", journal);
        let mut over = false;
        until("a guest begins", || {
            over = monitor.is_over();
            over || journal.lives() > lives
        });
        if !over {
            return monitor;
        }
        let ended = monitor.wait();
        assert!(ended.log.contains("another"), "{}", ended.log);
    }
}

#[test]
fn whoever_of_daemon_monitor_and_guest_dies_no_acknowledged_record_is_lost() {
    anybody_dies("anybody", IN_PROCESS, kills(20));
}

#[test]
fn nor_where_the_guest_is_on_kvm() {
    let Some(kernel) = guest::unikernel() else { return };
    anybody_dies("anybody-kvm", &["--kernel", kernel.to_str().unwrap()], kills(20) / 2);
}
