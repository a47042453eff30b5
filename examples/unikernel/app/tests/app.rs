//! The application on the fake host: what it prints, what it answers, and what it has the right to say.

use pvkit_abi::block::BlockConfig;
use pvkit_abi::status::Status;
use pvkit_guest_drivers::fake::{self, Device, Kind, TestPlatform};
use unikernel_app::{EXIT_FAILED, EXIT_USAGE, main};
use zerocopy::{FromBytes, IntoBytes};

/// Number of the disk; the console is the first device.
const DISK: usize = 1;

fn guest(disk: Device) -> TestPlatform {
    fake::platform(vec![Device::console(), disk])
}

fn small_disk() -> Device {
    Device::disk(0, 64 * 1024, 512)
}

/// What was printed so far.
fn printed(platform: &TestPlatform) -> String {
    match &platform.calls.host().devices[0].kind {
        Kind::Console { output, .. } => String::from_utf8_lossy(output).into_owned(),
        _ => panic!("device 1 is the console"),
    }
}

/// Runs once; exit status and text.
fn run(disk: Device, cmdline: &str) -> (i32, String) {
    let platform = guest(disk);
    let status = main(&platform, cmdline);
    (status, printed(&platform))
}

/// Runs and takes the power away: what was durable is what the next guest's disk begins with.
fn run_and_cut(disk: Device, cmdline: &str) -> (i32, String, Device) {
    let platform = guest(disk);
    let status = main(&platform, cmdline);
    let text = printed(&platform);
    let mut host = platform.calls.host();
    let Kind::Disk { durable, .. } = &host.devices[DISK].kind else { panic!("device 2 is the disk") };
    let (cached, durable) = (durable.clone(), durable.clone());
    let mut next = small_disk();
    next.offer = host.devices[DISK].offer;
    next.kind = Kind::Disk { cached, durable };
    host.devices.clear();
    (status, text, next)
}

#[test]
fn the_first_lines_say_what_was_negotiated() {
    let (status, text) = run(small_disk(), "app=hello");
    assert_eq!(status, 0);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("negotiated group EVENT version="), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("negotiated console 0 version=")), "{text}");
    assert_eq!(lines.last(), Some(&"hello from the guest"));
}

#[test]
fn a_word_that_is_not_understood_ends_with_the_status_of_misuse() {
    let (status, text) = run(small_disk(), "app=tea");
    assert_eq!(status, EXIT_USAGE);
    assert!(text.contains("error command line word 'app=tea'"), "{text}");
}

#[test]
fn a_disk_that_is_not_there_is_named() {
    let (status, text) = run(small_disk(), "app=check disk=3");
    assert_eq!(status, EXIT_FAILED);
    assert!(text.contains("error the host offers no disk 3"), "{text}");
}

#[test]
fn what_is_typed_comes_back_until_q() {
    let platform = guest(small_disk());
    platform.calls.host().type_in(1, b"abc\nde");
    platform.calls.host().type_in(1, b"fqgh");
    assert_eq!(main(&platform, "app=echo"), 0);
    let text = printed(&platform);
    assert!(text.ends_with("echo until q\nabc\ndef\necho ends\n"), "{text}");
}

#[test]
fn every_acknowledged_record_survives_the_power_cut_in_every_honest_mode() {
    for mode in ["flush", "fua", "mix"] {
        let (status, text, disk) = run_and_cut(small_disk(), &format!("app=log count=5 mode={mode}"));
        assert_eq!(status, 0, "{text}");
        assert!(text.contains("found 0\n") && text.contains("acked 4\n") && !text.contains("acked 5"), "{text}");
        let (status, text, _) = run_and_cut(disk, "app=check");
        assert_eq!(status, 0);
        assert!(text.ends_with("found 5\n"), "{mode}: {text}");
    }
}

#[test]
fn the_mutant_without_a_flush_is_caught_by_the_power_cut() {
    let (_, text, disk) = run_and_cut(small_disk(), "app=log count=5 mode=noflush");
    assert!(text.contains("acked 4\n"), "{text}");
    let (_, text, _) = run_and_cut(disk, "app=check");
    assert!(text.ends_with("found 0\n"), "{text}");
}

#[test]
fn the_log_goes_on_behind_what_is_there_and_stops_at_the_end_of_the_disk() {
    let (_, _, disk) = run_and_cut(small_disk(), "app=log count=3");
    let (status, text, disk) = run_and_cut(disk, "app=log");
    assert_eq!(status, 0);
    assert!(text.contains("found 3\nacked 3\n") && text.ends_with("acked 127\nlog ends at 128\n"), "{text}");
    assert!(run(disk, "app=check").1.ends_with("found 128\n"));
}

#[test]
fn a_record_is_as_long_as_a_block_of_the_disk() {
    let (status, text, disk) = run_and_cut(Device::disk(0, 64 * 1024, 4096), "app=log");
    assert_eq!(status, 0);
    assert!(text.ends_with("log ends at 16\n"), "{text}");
    assert!(run(disk, "app=check").1.ends_with("found 16\n"));
}

#[test]
fn a_flush_that_fails_is_not_acknowledged() {
    let mut disk = small_disk();
    // The scan and its flush; a write and its flush; a write, and its flush fails.
    disk.statuses.extend([None, None, None, None, None, Some((Status::IO_ERROR, 5))]);
    let (status, text) = run(disk, "app=log count=5 mode=flush");
    assert_eq!(status, EXIT_FAILED);
    assert!(text.contains("acked 0\n") && !text.contains("acked 1"), "{text}");
    assert!(text.contains("error device answered IO_ERROR, detail 5"), "{text}");
}

#[test]
fn a_request_that_fails_is_told_and_asked_again_as_it_was() {
    let mut disk = small_disk();
    let failed = Some((Status::IO_ERROR, 5));
    // The scan, asked for twice, and its flush; a write, asked for twice, and its flush, three times.
    disk.statuses.extend([failed, None, None, failed, None, failed, failed, None]);
    let (status, text) = run(disk, "app=log count=2 mode=flush errors=retry");
    assert_eq!(status, 0, "{text}");
    let told: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("failed ")?.split(':').next()).collect();
    assert_eq!(told, ["read", "write", "flush", "flush"], "{text}");
    assert!(text.contains("acked 1\n"), "{text}");
    let mut disk = small_disk();
    disk.statuses.extend([None, None]);
    disk.statuses.extend([failed; 99]);
    let (status, text) = run(disk, "app=log count=2 mode=flush errors=retry");
    assert_eq!((status, text.matches("failed write").count()), (EXIT_FAILED, 16), "{text}");
}

#[test]
fn what_an_earlier_life_left_in_the_cache_is_durable_before_anything_is_acknowledged() {
    let platform = guest(small_disk());
    assert_eq!(main(&platform, "app=log count=2 mode=noflush"), 0);
    let mut next = small_disk();
    let Kind::Disk { cached, durable } = &platform.calls.host().devices[DISK].kind else { panic!("it is the disk") };
    next.kind = Kind::Disk { cached: cached.clone(), durable: durable.clone() };
    let (status, text, disk) = run_and_cut(next, "app=log count=1 mode=fua");
    assert!(status == 0 && text.contains("found 2\nacked 2\n"), "{text}");
    assert!(run(disk, "app=check").1.ends_with("found 3\n"));
}

#[test]
fn a_log_that_resets_itself_gets_to_the_end_of_the_disk_in_the_end() {
    let mut disk = small_disk();
    for life in 1.. {
        let (status, text, next) = run_and_cut(disk, "app=log reset=7");
        assert!(status == 0 && life < 100, "{text}");
        if text.contains("log ends at 128") {
            assert!(life > 5, "only {life} lives");
            return;
        }
        disk = next;
    }
}

#[test]
fn the_bench_counts_its_requests_at_every_depth() {
    for (depth, op) in [(1, "read"), (3, "write"), (64, "read")] {
        let (status, text) = run(small_disk(), &format!("app=bench depth={depth} requests=500 op={op}"));
        assert_eq!(status, 0, "{text}");
        let line = text.lines().last().unwrap_or_default();
        assert!(line.starts_with("bench requests=500 ") && line.contains(" lost=0 "), "{line}");
    }
}

#[test]
fn many_tasks_read_the_whole_disk_and_no_wake_up_is_lost() {
    for (depth, count) in [(1, 3), (3, 2), (32, 2), (128, 1)] {
        let platform = guest(small_disk());
        platform.calls.host().lazy = true;
        platform.calls.host().type_in(1, b"typed q\n");
        assert_eq!(main(&platform, &format!("app=async depth={depth} count={count}")), 0, "{}", printed(&platform));
        let text = printed(&platform);
        assert_eq!(text.lines().filter(|line| line.contains("reader ")).count(), depth, "{text}");
        let line = text.lines().last().unwrap_or_default();
        let requests = 16 * count;
        assert!(line.starts_with(&format!("async requests={requests} ")) && line.contains(" lost=0 "), "{line}");
        assert!(text.contains("typed q"), "{text}");
        assert_eq!(platform.calls.host().counts.vain_waits, 0);
        // The bus and the console stay open in every application.
        let hello = guest(small_disk());
        main(&hello, "app=hello");
        assert_eq!(platform.pages.0.leaked(), hello.pages.0.leaked());
    }
}

#[test]
fn a_task_that_fails_ends_the_application_and_its_pages_are_freed() {
    let mut disk = small_disk();
    disk.statuses.extend([None, None, Some((Status::IO_ERROR, 5))]);
    let (status, text) = run(disk, "app=async depth=4");
    assert_eq!(status, EXIT_FAILED);
    assert!(text.contains("error device answered IO_ERROR, detail 5"), "{text}");
}

#[test]
fn a_new_size_is_printed() {
    let platform = guest(small_disk());
    platform.calls.host().happenings.push_back(Box::new(|host| {
        let mut config = BlockConfig::read_from_bytes(&host.devices[DISK].offer.config).unwrap();
        config.capacity *= 2;
        host.change_config(2, config.as_bytes().try_into().unwrap());
    }));
    assert_eq!(main(&platform, "app=resize"), 0);
    assert!(printed(&platform).ends_with("capacity 65536\ncapacity 131072\n"), "{}", printed(&platform));
}

#[test]
fn input_that_comes_while_the_guest_sleeps_wakes_it() {
    let platform = guest(small_disk());
    platform.calls.host().happenings.push_back(Box::new(|host| {
        host.type_in(1, b"late q");
        host.ring(1);
    }));
    assert_eq!(main(&platform, "app=echo"), 0);
    assert!(printed(&platform).contains("late "), "{}", printed(&platform));
    assert_eq!(platform.calls.host().counts.vain_waits, 0);
}

#[test]
fn a_disk_without_a_file_system_is_an_error_and_not_a_panic() {
    for bytes in [512, 4096, 64 * 1024] {
        let (status, text) = run(Device::disk(0, bytes, 512), "app=files");
        assert_eq!(status, EXIT_FAILED, "{text}");
        assert!(text.contains("error file system: "), "{text}");
    }
}
