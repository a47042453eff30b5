//! The demo application on the in-process machine: the same code without KVM.

use pvkit_backends::RamDisk;
use pvkit_machine::{Control, End, Program};
use pvkit_tests::{Guest, tasks};
use std::sync::Arc;
use std::time::Duration;

fn app(cmdline: &str) -> Guest {
    Guest::new(Program::InProcess(unikernel_hosted::main), cmdline).console()
}

fn ram(bytes: u64) -> Arc<RamDisk> {
    Arc::new(RamDisk::new(bytes).unwrap_or_else(|error| panic!("{error}")))
}

#[test]
fn guest_says_hello() {
    let ran = app("app=hello").run();
    ran.expect_success();
    assert!(ran.console.contains("hello from the guest"), "{}", ran.console);
    assert_eq!(ran.report.machine, "in-process");
}

#[test]
fn random_requests_complete_at_every_depth() {
    for depth in [1, 2, 32, 128] {
        let ran = app(&format!("app=bench depth={depth} requests=3000 op=write")).disk(ram(1 << 20), "ram").run();
        ran.expect_success();
        assert_eq!(ran.number("bench", "requests"), 3000, "{}", ran.console);
        assert_eq!(ran.number("bench", "lost"), 0, "{}", ran.console);
    }
}

#[test]
fn tasks_share_the_queues_and_every_reader_gets_its_own_pages() {
    for (readers, rounds) in [(1, 20), (5, 8), (32, 4), (128, 2)] {
        let _ = tasks::run(Program::InProcess(unikernel_hosted::main), 128, readers, rounds);
    }
}

#[test]
fn tasks_that_look_at_the_queue_while_the_host_completes_lose_no_wake_up() {
    // Two or three in flight: one comes often while another is dealt with. Without the look after arming some ten
    // thousand requests lose one.
    for readers in [2, 3] {
        let _ = tasks::run(Program::InProcess(unikernel_hosted::main), 128, readers, 100);
    }
}

#[test]
fn acknowledged_records_are_found_again_by_the_next_guest() {
    let disk = ram(256 * 1024);
    let first = app("app=log disk=0 count=40 mode=mix").disk(disk.clone(), "log").run();
    first.expect_success();
    assert!(first.console.contains("found 0"), "{}", first.console);
    assert!(first.console.contains("acked 39"), "{}", first.console);
    let second = app("app=check disk=0").disk(disk, "log").run();
    second.expect_success();
    assert!(second.console.contains("found 40"), "{}", second.console);
}

#[test]
fn panic_of_the_guest_is_its_crash_and_not_the_hosts() {
    let ran = app("app=panic").run();
    assert!(matches!(&ran.report.end, End::Crash { message, .. } if message.contains("panic")), "{:?}", ran.report.end);
}

#[test]
fn guest_that_sleeps_is_stopped_from_outside() {
    let control = Control::new();
    let stopper = control.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        stopper.stop();
    });
    let ran = app("app=wait seconds=3600").try_run_with(&control).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(ran.report.end, End::Stopped);
    thread.join().unwrap_or_else(|_| panic!("the stopper panicked"));
}

#[test]
fn more_than_one_vcpu_is_refused_by_name() {
    let error = app("app=hello").cpus(2).try_run();
    let error = error.err().unwrap_or_else(|| panic!("two vCPUs in one process ran"));
    assert!(error.to_string().contains("2 vCPUs"), "{error}");
}
