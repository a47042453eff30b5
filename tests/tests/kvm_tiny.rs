//! The smallest guest on KVM: entry, hypercalls, upcalls, several vCPUs, deaths, mischief; at CPL 3 and at CPL 0.

use pvkit_backends::RamDisk;
use pvkit_machine::{End, Program};
use pvkit_tests::{Guest, Ran, freestanding, tiny, unikernel, unless_kvm};
use std::sync::Arc;

/// The privilege levels that can be tried here.
fn levels() -> Vec<u8> {
    if !unless_kvm() {
        return Vec::new();
    }
    if freestanding() { vec![3, 0] } else { vec![3] }
}

fn tiny_guest(words: &str, cpl: u8) -> Guest {
    Guest::new(Program::Image(tiny()), words).cpl(cpl).cpus(2)
}

fn crash(ran: &Ran) -> (&str, &str) {
    match &ran.report.end {
        End::Crash { message, registers } => (message, registers),
        other => panic!("ended with {other:?} instead of a crash; host:\n{}", ran.early),
    }
}

#[test]
fn guest_says_hello_and_powers_off() {
    for cpl in levels() {
        let ran = tiny_guest("hello", cpl).run();
        ran.expect_success();
        assert!(ran.early.contains(&format!("hello from CPL {cpl}")), "{}", ran.early);
        // Negotiation, two lines of text, power-off.
        assert_eq!(ran.report.counters.total_exits(), 4, "{}", ran.report);
    }
}

#[test]
fn guest_at_cpl_0_finds_the_cpuid_leaves() {
    if levels().contains(&0) {
        tiny_guest("cpuid", 0).run().expect_success();
    }
}

#[test]
fn started_vcpus_run_and_wake_the_first_by_events() {
    for cpl in levels() {
        let ran = tiny_guest("smp", cpl).cpus(4).run();
        ran.expect_success();
        assert!(ran.early.contains("every vCPU signalled"), "{}", ran.early);
        assert_eq!(ran.report.counters.hypercalls.get("vcpu_start"), Some(&3), "{}", ran.report);
    }
}

#[test]
fn every_register_survives_every_upcall() {
    for cpl in levels() {
        let ran = tiny_guest("upcalls", cpl).run();
        ran.expect_success();
        assert!(ran.early.contains("every register survived"), "{}", ran.early);
        assert!(ran.report.counters.upcalls >= 200, "{}", ran.report);
    }
}

#[test]
fn faults_are_reported_with_vector_address_and_registers() {
    let cases = [
        ("null", "page fault", "address 0x0"),
        ("ud2", "invalid opcode", "vector 6"),
        ("text", "page fault", "address 0x2"),
        ("stack", "page fault", "vector 14"),
        ("overflow", "page fault", "error code 0x"),
    ];
    for cpl in levels() {
        for (word, name, detail) in cases {
            let ran = tiny_guest(word, cpl).run();
            let (message, registers) = crash(&ran);
            assert!(message.contains(name) && message.contains(detail), "{word}: {message}");
            assert!(registers.contains("rip=00000000002"), "{word}: {registers}");
        }
    }
}

#[test]
fn last_words_and_panics_reach_the_host_with_registers() {
    for cpl in levels() {
        let ran = tiny_guest("crash", cpl).run();
        assert_eq!(crash(&ran).0, "last words");
        let ran = tiny_guest("panic", cpl).run();
        let (message, registers) = crash(&ran);
        assert!(message.contains("on purpose") && message.contains("tiny.rs"), "{message}");
        assert!(registers.contains("rsp="), "{registers}");
    }
}

#[test]
fn wild_guest_costs_the_host_counters_only() {
    for cpl in levels() {
        let ran = tiny_guest("wild", cpl).run();
        ran.expect_success();
        assert!(ran.early.contains("the host stood it"), "{}", ran.early);
        assert!(ran.report.counters.exits.get("stray access").is_some_and(|count| *count >= 10), "{}", ran.report);
        // Told at powers of two: a flood of mistakes is a handful of lines.
        assert!(ran.early.lines().count() < 60, "{}", ran.early);
    }
}

#[test]
fn a_second_vcpu_that_writes_over_everything_shared_harms_its_own_guest_only() {
    for cpl in levels() {
        let content: Vec<u8> = (0..1u32 << 20).map(|i| (i / 512 * 31 + i) as u8).collect();
        let neighbour = std::thread::spawn({
            let disk = Arc::new(RamDisk::with_content(content.clone()));
            move || {
                let guest = Guest::new(Program::Image(unikernel()), "app=bench depth=8 requests=5000 op=read");
                guest.cpl(cpl).console().disk(disk.clone(), "quiet").run().expect_success();
                disk.content()
            }
        });
        let disk = Arc::new(RamDisk::with_content(content.clone()));
        let ran = tiny_guest("scribble", cpl).cpus(2).disk(disk.clone(), "scribbled").run();
        ran.expect_success();
        assert!(ran.early.contains("the host stood the second vCPU"), "{}", ran.early);
        let queues = &ran.report.counters.queues;
        let faults: u64 = queues.iter().map(|queue| queue.counters.faults).sum();
        let opens: u64 = queues.iter().map(|queue| queue.counters.opens).sum();
        println!("CPL {cpl}: {}", ran.report);
        assert!(faults > 0 && opens > 24, "{faults} faults in {opens} openings: nothing was hit: {}", ran.report);
        assert!(ran.early.lines().count() < 400, "{}", ran.early);
        assert_eq!(disk.content().len(), content.len());
        assert!(neighbour.join().is_ok_and(|seen| seen == content), "the neighbour's disk has changed");
    }
}

#[test]
fn hosts_tables_are_out_of_the_reach_of_every_argument() {
    for cpl in levels() {
        let ran = tiny_guest("tables", cpl).run();
        ran.expect_success();
        assert!(ran.early.contains("the tables are the host's"), "{}", ran.early);
        assert_eq!(ran.report.counters.upcalls, 0, "{}", ran.report);
    }
}

#[test]
fn endless_loop_is_stopped_from_outside() {
    for cpl in levels() {
        let control = pvkit_machine::Control::new();
        let stopper = control.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            stopper.stop();
        });
        let ran = tiny_guest("spin", cpl).try_run_with(&control).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(ran.report.end, End::Stopped);
        thread.join().unwrap_or_else(|_| panic!("the stopper panicked"));
    }
}
