//! A disk image that grows while its guest runs.

use pvkit_backends::RawDisk;
use pvkit_backends::disk::RawOptions;
use pvkit_machine::{Control, Program};
use pvkit_tests::{Guest, unikernel, unless_kvm};
use std::sync::Arc;
use std::time::{Duration, Instant};

const BEFORE: u64 = 1 << 20;
const AFTER: u64 = 3 << 20;

fn grown_disk_is_announced(program: Program) {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let path = folder.path().join("disk.img");
    let file = std::fs::File::create(&path).unwrap_or_else(|error| panic!("{error}"));
    file.set_len(BEFORE).unwrap_or_else(|error| panic!("{error}"));
    let disk = RawDisk::open(&path, &RawOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let guest = Guest::new(program, "app=resize disk=0 seconds=30").console().disk(Arc::new(disk), "disk");
    let (sink, control) = (guest.sink(), Control::new());
    let operator = control.clone();
    let thread = std::thread::spawn(move || {
        let seen = |text: String| {
            let deadline = Instant::now() + Duration::from_secs(20);
            while Instant::now() < deadline && !sink.text().contains(&text) {
                std::thread::sleep(Duration::from_millis(5));
            }
            sink.text().contains(&text)
        };
        let first = seen(format!("capacity {BEFORE}"));
        let grown = file.set_len(AFTER);
        operator.refresh_disks();
        let second = seen(format!("capacity {AFTER}"));
        operator.stop();
        (first, grown.is_ok(), second)
    });
    let ran = guest.try_run_with(&control).unwrap_or_else(|error| panic!("{error}"));
    let seen = thread.join().unwrap_or_else(|_| panic!("the operator panicked"));
    assert_eq!(seen, (true, true, true), "{}\n{}", ran.console, ran.early);
}

#[test]
fn grown_disk_is_announced_to_a_guest_on_kvm() {
    if unless_kvm() {
        grown_disk_is_announced(Program::Image(unikernel()));
    }
}

#[test]
fn grown_disk_is_announced_to_a_guest_in_this_process() {
    grown_disk_is_announced(Program::InProcess(unikernel_hosted::main));
}
