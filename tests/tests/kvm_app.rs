//! The demo application on KVM: what negotiation and requests cost, counted by this program and by KVM itself.

use pvkit_backends::RamDisk;
use pvkit_machine::{Program, QueueReport};
use pvkit_tests::{Guest, Ran, tasks, unikernel, unless_kvm};
use std::sync::Arc;

/// Bytes of the disk that is read at random.
const DISK: u64 = 8 << 20;

fn app(cmdline: &str) -> Guest {
    Guest::new(Program::Image(unikernel()), cmdline).console()
}

fn bench(depth: u32, requests: u32, op: &str) -> Ran {
    let disk = RamDisk::new(DISK).unwrap_or_else(|error| panic!("{error}"));
    let ran = app(&format!("app=bench depth={depth} requests={requests} op={op}")).disk(Arc::new(disk), "ram").run();
    ran.expect_success();
    println!("{}\n{}", ran.console, ran.report);
    ran
}

fn disk_queue(ran: &Ran) -> &QueueReport {
    let queues = &ran.report.counters.queues;
    queues.iter().find(|queue| queue.device == "ram").unwrap_or_else(|| panic!("no disk in {}", ran.report))
}

/// Exits to user space that are not for requests: negotiation, the console, power-off, a few waits.
const FIXED_EXITS: u64 = 40;

#[test]
fn negotiating_a_disk_and_a_console_takes_at_most_twelve_exits() {
    if !unless_kvm() {
        return;
    }
    // The disk is opened and one request is made; the exits of that request and of the power-off are counted too.
    let ran = bench(2, 1, "read");
    let calls = &ran.report.counters.hypercalls;
    let negotiating = ["negotiate", "bus_setup", "bus_kick", "event_alloc", "event_mask", "event_bind"];
    let count: u64 = negotiating.iter().filter_map(|name| calls.get(*name)).sum();
    assert!(count <= 12, "{count} exits: {}", ran.report);
}

#[test]
fn depth_one_needs_at_most_one_doorbell_and_one_interrupt_a_request() {
    if !unless_kvm() {
        return;
    }
    let ran = bench(1, 5000, "read");
    let queue = disk_queue(&ran).counters;
    assert_eq!(queue.requests, 5000);
    assert!(queue.doorbells <= queue.requests, "{queue}");
    assert!(queue.interrupts <= queue.requests, "{queue}");
    // What leaves for user space is the guest's own sleep, at most one a request; doorbells do not.
    assert!(ran.report.counters.total_exits() <= queue.requests + FIXED_EXITS, "{}", ran.report);
}

#[test]
fn depth_thirty_two_with_both_sides_busy_needs_at_most_a_tenth_of_each() {
    if !unless_kvm() {
        return;
    }
    for op in ["read", "write"] {
        let ran = bench(32, 50_000, op);
        let queue = disk_queue(&ran).counters;
        assert_eq!(queue.requests, 50_000);
        assert!(queue.doorbells * 10 <= queue.requests, "{queue}");
        assert!(queue.interrupts * 10 <= queue.requests, "{queue}");
        assert!(ran.report.counters.total_exits() * 10 <= queue.requests, "{}", ran.report);
    }
}

#[test]
fn kvm_counts_no_more_returns_to_user_space_than_this_program() {
    if !unless_kvm() {
        return;
    }
    let ran = bench(32, 20_000, "read");
    // Every return to user space gives the floating-point state back to the host: KVM's own count of them, on each
    // KVM tried. `io_exits` is no use: a software KVM leaves it at 0, a hardware one counts doorbells in it.
    let Some(reloads) = ran.report.counters.kvm.get("fpu_reload") else {
        println!("skipped: kvm-stats: this kernel has no fpu_reload statistic");
        return;
    };
    let ours = ran.report.counters.total_exits();
    assert!(*reloads <= ours + ran.report.counters.upcalls + 8, "KVM {reloads}, we {ours}");
}

#[test]
fn guest_that_lacks_a_device_is_refused_before_it_runs() {
    if !unless_kvm() {
        return;
    }
    let error = Guest::new(Program::Image(unikernel()), "app=hello").try_run();
    let error = error.err().unwrap_or_else(|| panic!("a guest without its console ran"));
    assert!(error.to_string().contains("CONSOLE"), "{error}");
    assert!(error.is_user_mistake());
}

#[test]
fn two_guests_run_at_once_and_a_wild_one_does_not_disturb_the_other() {
    if !unless_kvm() {
        return;
    }
    let wild = std::thread::spawn(|| Guest::new(Program::Image(pvkit_tests::tiny()), "wild").cpl(3).run());
    let ran = bench(8, 20_000, "write");
    assert_eq!(disk_queue(&ran).counters.errors, 0);
    wild.join().unwrap_or_else(|_| panic!("the wild guest's run panicked")).expect_success();
}

#[test]
fn tasks_share_the_queues_and_every_reader_gets_its_own_pages() {
    if !unless_kvm() {
        return;
    }
    for (readers, rounds) in [(1, 2), (32, 4), (128, 4)] {
        let ran = tasks::run(Program::Image(unikernel()), 1024, readers, rounds);
        let queue = disk_queue(&ran).counters;
        assert!(queue.doorbells <= queue.requests && queue.interrupts <= queue.requests, "{queue}");
        // One interrupt for a batch: the bottom half takes all that is there before it asks for the next.
        assert!(readers < 32 || queue.interrupts * 4 <= queue.requests, "{queue}");
        println!("{readers} readers: {queue}");
    }
}
