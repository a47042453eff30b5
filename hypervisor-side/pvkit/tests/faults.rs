//! A log on media that fail by chance, killed at random: each error reaches the guest, and nothing acknowledged is lost. Only with
//! the feature `mutants`. The long form: `PVKIT_KILLS=500`, with any `PVKIT_SEED`.

mod guest;
mod journal;

use guest::folder;
use journal::{Daemon, IN_PROCESS, Journal, Machine, Monitor, Random, check, faults, image, kills, pause, until};
use std::fs;
use std::path::Path;

const BYTES: u64 = 64 << 20;
/// A writer that asks again for what it was refused, and takes it for granted that what was stored stays.
const LOG: &str = "app=log mode=mix batch=1 errors=retry count=400";

fn stands(journal: &Journal, image: &Path, what: &str) {
    journal.assert_kept();
    let (acked, found) = (journal.acked(), check(image));
    assert!(found >= acked, "{acked} were acknowledged, {found} are there");
    println!("{what}: {acked} records acknowledged, all there; {} errors told", journal.failed());
}

/// Guests that come to their own end: as many errors were told as were given.
#[test]
fn each_error_of_a_medium_is_told_to_the_guest() {
    let mut random = Random::new();
    for cache in ["writeback", "volatile"] {
        let folder = folder("faults-told");
        let image = image(&folder, BYTES);
        let journal = Journal::new();
        let mut given = 0;
        for _ in 0..kills(20) / 4 {
            let seed = random.below(1 << 30);
            let words = format!("{seed}:read=5:write=3:space=3:short=30:delay=10");
            let disk = format!("path={},cache={cache},faults={words}", image.display());
            // No FUA: such an error would close the disk, and each later answer is the disk's own.
            let cmdline = "app=log mode=flush batch=1 errors=retry count=40";
            let ended = Monitor::start(IN_PROCESS, &disk, cmdline, &journal).wait();
            assert!(ended.status.success(), "{ended:?}");
            given += faults(&ended.log);
            assert_eq!(given, journal.failed(), "{ended:?}");
        }
        assert!(given > 10, "{given}");
        stands(&journal, &image, &format!("{cache}: {given} errors given"));
        fs::remove_dir_all(folder).unwrap();
    }
}

/// A sync that fails loses what was stored; a writer that asks for it again is not told that all is well.
fn syncs_fail(name: &str, machine: Machine<'_>, cache: &str, lives: u64) {
    let folder = folder(name);
    let image = image(&folder, BYTES);
    let (journal, mut random) = (Journal::new(), Random::new());
    let (mut closed, mut killed) = (0, 0);
    for life in 0..lives {
        let words = format!("{}:sync=4:write=1:short=20:delay=5", random.below(1 << 30));
        let disk = format!("path={},cache={cache},faults={words}", image.display());
        let mut monitor = Monitor::start(machine, &disk, LOG, &journal);
        let lives = journal.lives();
        until("a guest begins", || monitor.is_over() || journal.lives() > lives);
        // Every other one comes to where it gets no further.
        let ended = if life % 2 == 0 {
            monitor.wait()
        } else {
            pause(&mut random, 100);
            monitor.kill()
        };
        if ended.status.code() == Some(1) {
            assert!(ended.says("error device answered IO_ERROR"), "{ended:?}");
            assert!(ended.log.contains("fault: "), "{ended:?}");
            assert!(ended.says("a sync of the disk failed"), "{ended:?}");
            closed += 1;
        } else {
            killed += 1;
        }
    }
    stands(&journal, &image, &format!("{name}: {closed} disks closed, {killed} monitors killed"));
    // Of four hundred records one meets a sync that fails.
    assert!(closed >= lives / 2 && journal.acked() > 0, "{closed} of {lives}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_sync_that_fails_is_told_and_what_it_lost_was_never_acknowledged() {
    syncs_fail("faults-sync", IN_PROCESS, "writeback", kills(20));
}

#[test]
fn nor_was_it_under_a_volatile_cache() {
    syncs_fail("faults-sync-volatile", IN_PROCESS, "volatile", kills(20));
}

#[test]
fn nor_by_a_guest_on_kvm() {
    let Some(kernel) = guest::unikernel() else { return };
    syncs_fail("faults-sync-kvm", &["--kernel", kernel.to_str().unwrap()], "writeback", kills(20) / 2);
}

/// Daemons on such a medium, killed under a guest that goes on. Their syncs do not fail: a medium of the kernel's would tell the
/// monitor's witness, this one is gone with its daemon.
#[test]
fn a_killed_daemon_of_a_failing_medium_loses_no_acknowledged_record() {
    let folder = folder("faults-daemon");
    let (image, socket) = (image(&folder, BYTES), folder.join("backend.sock"));
    let (journal, mut random) = (Journal::new(), Random::new());
    let disk = format!("backend={},id=log", socket.display());
    let cmdline = "app=log mode=flush batch=1 errors=retry";
    let start = |random: &mut Random| {
        let words = format!("{}:read=3:write=3:space=2:short=30:delay=10", random.below(1 << 30));
        Daemon::start(&socket, &format!("path={},faults={words}", image.display()))
    };
    let mut daemon = start(&mut random);
    let mut monitor = Monitor::start(IN_PROCESS, &disk, cmdline, &journal);
    let mut given = 0;
    for _ in 0..kills(20) {
        let before = journal.acked();
        until("it goes on", || {
            assert!(!monitor.is_over(), "it is over");
            journal.acked() > before
        });
        pause(&mut random, 60);
        given += faults(&daemon.kill());
        daemon = start(&mut random);
    }
    let before = journal.acked();
    until("it works after the last one", || journal.acked() > before);
    let ended = monitor.kill();
    given += faults(&daemon.end());
    // One that was killed may have given an error that it could not tell any more; then the request was done again.
    assert!(journal.failed() <= given, "{} were told, {given} given: {ended:?}", journal.failed());
    assert!(journal.failed() > 0);
    stands(&journal, &image, &format!("{} daemons: {given} errors given", kills(20)));
    fs::remove_dir_all(folder).unwrap();
}
