//! The future of the next event.

use super::*;
use crate::waking::{Count, poll, serve};
use core::pin::pin;
use core::task::Poll;
use pvkit_abi::services::{ServiceEvent, ServiceKind};
use pvkit_guest_drivers::Services;
use pvkit_guest_drivers::asynchronous::Interrupt;
use pvkit_guest_drivers::error::{HostFault, RequestError};
use pvkit_guest_drivers::fake::Kind;
use pvkit_guest_drivers::platform::Platform;
use pvkit_guest_drivers::services::AsyncServices;

fn ask(platform: &TestPlatform, sequence: u64) -> ServiceEvent {
    let (kind, generation) = (ServiceKind::HEARTBEAT, [3; 16]);
    let event = ServiceEvent { size: 48, kind, sequence, wall_clock_ns: 7, patience_ns: 9, generation };
    let mut host = platform.calls.host();
    if let Kind::Services { events, .. } = &mut host.devices[0].kind {
        events.push_back(event);
    }
    host.ring(1);
    event
}

#[test]
fn an_event_wakes_the_task_a_drop_loses_none_and_a_lie_is_told() {
    let (platform, interrupt) = (fake::platform(vec![Device::services()]), Interrupt::new());
    let mut bus = Bus::connect(&platform).unwrap();
    let services = Services::open(&mut bus, 1, GrantPolicy::Extent, LATE).unwrap();
    let mut services = AsyncServices::new(services, &interrupt);
    let (count, waker) = Count::new();
    for sequence in 1..=3 {
        let mut next = pin!(services.next(LATE));
        assert!(poll(&mut next, &waker).is_pending());
        let asked = ask(&platform, sequence);
        serve(&platform, &interrupt);
        assert_eq!(count.woken() as u64, sequence);
        assert_eq!(poll(&mut next, &waker), Poll::Ready(Ok(asked)));
    }
    // Dropped while it listens.
    assert!(poll(&mut pin!(services.next(LATE)), &waker).is_pending());
    let asked = ask(&platform, 4);
    assert_eq!(poll(&mut pin!(services.next(LATE)), &waker), Poll::Ready(Ok(asked)));
    let past = platform.now();
    assert_eq!(poll(&mut pin!(services.next(past)), &waker), Poll::Ready(Err(RequestError::TimedOut)));
    ask(&platform, 4);
    let told = poll(&mut pin!(services.next(LATE)), &waker);
    assert!(matches!(told, Poll::Ready(Err(RequestError::PeerFault(HostFault::Reply { .. })))), "{told:?}");
}
