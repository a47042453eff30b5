use super::*;
use std::thread;

/// Long enough that a test which needs it has failed.
const LONG: Duration = Duration::from_secs(20);

fn gate() -> Arc<Gate> {
    let ram = GuestRam::new(2 << 20).unwrap();
    Arc::new(Gate::new(&ram, GuestAddr(0x1000)).unwrap())
}

fn pending(gate: &Gate, word: usize) -> u64 {
    gate.area.word(word * 8).unwrap().load(Ordering::SeqCst)
}

#[test]
fn event_before_the_wait_ends_it_at_once() {
    let gate = gate();
    assert!(!gate.raise(70));
    assert_eq!(pending(&gate, 1), 1 << 6);
    assert_eq!(gate.block(LONG), Wake::Event);
}

#[test]
fn event_during_the_wait_ends_it() {
    let gate = gate();
    let raiser = gate.clone();
    let thread = thread::spawn(move || {
        while !raiser.state().blocked {
            thread::yield_now();
        }
        raiser.raise(3)
    });
    assert_eq!(gate.block(LONG), Wake::Event);
    assert!(!thread.join().unwrap(), "a vCPU that sleeps is woken, not kicked");
}

#[test]
fn wait_without_an_event_ends_by_its_deadline_and_by_a_stop() {
    let gate = gate();
    assert_eq!(gate.block(Duration::from_millis(1)), Wake::Deadline);
    gate.stop();
    assert_eq!(gate.block(LONG), Wake::Stopped);
}

#[test]
fn running_vcpu_is_kicked_once_and_only_if_it_takes_upcalls() {
    let gate = gate();
    assert!(!gate.raise(0), "no upcall is registered");
    gate.set_upcall(Some(Upcall { entry: 0x20_0000, stack_top: 0x30_0000 }));
    assert!(!gate.raise(0), "the port is pending already");
    assert!(gate.raise(1));
    gate.set_mask(true);
    assert!(!gate.raise(2), "upcalls are masked");
    assert_eq!(gate.upcall_due(), None);
    gate.set_mask(false);
    assert_eq!(gate.upcall_due(), Some(Upcall { entry: 0x20_0000, stack_top: 0x30_0000 }));
}

#[test]
fn withdrawn_event_is_pending_no_more() {
    let gate = gate();
    gate.raise(9);
    assert!(gate.withdraw(9));
    assert!(!gate.withdraw(9));
    assert_eq!(pending(&gate, 0), 0);
}
