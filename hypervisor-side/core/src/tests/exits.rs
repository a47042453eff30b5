//! How many exits it costs a guest to get to its devices.

use super::{ALL, domain, offers, open_queue, share_one, status};
use crate::fake::{FakeGuest, FakeMachine, FakeMemory, with_body};
use pvkit_abi::bus::Kind;
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;

#[test]
fn one_block_and_one_console_device_take_at_most_twelve_hypercalls() {
    let memory = FakeMemory::new(64);
    let mut machine = FakeMachine::new(domain(), &memory);
    let mut guest = FakeGuest::new(&memory);

    assert_eq!(guest.negotiate(&mut machine, &ALL).0, 0);
    let [bus, block, console] = [0, 1, 2].map(|expected| {
        assert_eq!(machine.call(Call::EVENT_ALLOC, [0; 5]), expected);
        u32::try_from(expected).unwrap()
    });
    guest.bus_setup(&mut machine, bus).unwrap();

    let found = offers(&mut guest);
    assert_eq!(found.len(), 2, "both are offered when the setup returns");
    for (device, epoch) in found {
        guest.post(&with_body(Kind::ACCEPT, device, epoch, &super::ACCEPT)).unwrap();
    }
    assert_eq!(machine.call(Call::BUS_KICK, [0; 5]), 0);
    for ((_, reply), port) in guest.replies().into_iter().zip([block, console]) {
        assert_eq!(status(&reply), Ok(()));
        let share = share_one(&mut guest);
        guest.post(&with_body(Kind::GRANT_SHARE, reply.device, reply.epoch, &share)).unwrap();
        let open = open_queue(&mut guest, 0, 64, port);
        guest.post(&with_body(Kind::OPEN_QUEUE, reply.device, reply.epoch, &open)).unwrap();
    }
    assert_eq!(machine.call(Call::BUS_KICK, [0; 5]), 0);
    let replies = guest.replies();
    assert_eq!(replies.iter().map(|(_, reply)| status(reply)).collect::<Vec<_>>(), [Ok::<(), CallError>(()); 4]);

    assert_eq!(machine.calls, machine.domain.counters().total_hypercalls());
    assert!(machine.calls <= 12, "{} hypercalls", machine.calls);
    let report: Vec<String> = machine.domain.negotiated().iter().map(ToString::to_string).collect();
    assert_eq!(report.len(), 9, "seven groups and two devices: {report:#?}");
    assert_eq!(report[7], "device 1 BLOCK.0 0.1 features 0x3 queues 2 open [64]");
}
