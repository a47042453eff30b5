//! The services driver.

use super::*;
use pvkit_abi::services::{ServiceEvent, ServiceKind, ServiceReport};
use pvkit_guest_drivers::Services;
use pvkit_guest_drivers::error::{HostFault, RequestError};
use pvkit_guest_drivers::fake::Kind;

fn platform() -> TestPlatform {
    fake::platform(vec![Device::services()])
}

fn open(platform: &TestPlatform) -> (Bus<'_, TestPlatform>, Services<'_, TestPlatform>) {
    let mut bus = Bus::connect(platform).unwrap();
    let services = Services::open(&mut bus, 1, GrantPolicy::Extent, LATE).unwrap();
    (bus, services)
}

fn event(kind: ServiceKind, sequence: u64) -> ServiceEvent {
    ServiceEvent { size: 48, kind, sequence, wall_clock_ns: 7, patience_ns: 9, generation: [3; 16] }
}

fn ask(platform: &TestPlatform, event: ServiceEvent) {
    let mut host = platform.calls.host();
    if let Kind::Services { events, .. } = &mut host.devices[0].kind {
        events.push_back(event);
    }
    host.ring(1);
}

fn reports(platform: &TestPlatform) -> Vec<(u16, u64)> {
    match &platform.calls.host().devices[0].kind {
        Kind::Services { reports, .. } => reports.clone(),
        _ => panic!("device 1 is the services"),
    }
}

#[test]
fn events_come_in_order_and_are_answered() {
    let platform = platform();
    let (_bus, mut services) = open(&platform);
    services.report(0, ServiceReport::READY).unwrap();
    assert_eq!(services.poll(), Ok(None));
    for (kind, sequence) in [(ServiceKind::HEARTBEAT, 1), (ServiceKind::FREEZE, 2), (ServiceKind::SHUTDOWN, 5)] {
        ask(&platform, event(kind, sequence));
        assert_eq!(services.wait(LATE), Ok(event(kind, sequence)));
        services.report(sequence, ServiceReport::DONE).unwrap();
    }
    assert_eq!(reports(&platform), [(4, 0), (2, 1), (2, 2), (2, 5)]);
    assert_eq!(services.generation(), [3; 16]);
}

#[test]
fn a_wait_that_timed_out_loses_nothing() {
    let platform = platform();
    let (_bus, mut services) = open(&platform);
    assert_eq!(services.wait(1 << 20), Err(RequestError::TimedOut));
    ask(&platform, event(ServiceKind::THAW, 1));
    assert_eq!(services.wait(LATE), Ok(event(ServiceKind::THAW, 1)));
}

#[test]
fn an_unknown_kind_is_refused() {
    let platform = platform();
    let (_bus, mut services) = open(&platform);
    ask(&platform, event(ServiceKind(99), 4));
    assert_eq!(services.poll(), Ok(None));
    assert_eq!(reports(&platform), [(ServiceReport::REFUSED.0, 4)]);
}

#[test]
fn an_event_that_cannot_be_is_dropped() {
    let platform = platform();
    let (_bus, mut services) = open(&platform);
    for wrong in [event(ServiceKind::THAW, 0), ServiceEvent { size: 47, ..event(ServiceKind::THAW, 1) }] {
        ask(&platform, wrong);
        assert!(matches!(services.wait(LATE), Err(RequestError::PeerFault(HostFault::Reply { .. }))));
    }
    ask(&platform, event(ServiceKind::THAW, 3));
    assert!(services.wait(LATE).is_ok());
    ask(&platform, event(ServiceKind::THAW, 3));
    assert!(matches!(services.wait(LATE), Err(RequestError::PeerFault(_))));
}

#[test]
fn closing_gives_the_page_back() {
    let platform = platform();
    let mut bus = Bus::connect(&platform).unwrap();
    let live = platform.pages.0.live();
    let mut services = Services::open(&mut bus, 1, GrantPolicy::Extent, LATE).unwrap();
    assert_eq!(services.poll(), Ok(None));
    services.close(&mut bus, LATE).unwrap();
    drop(services);
    assert_eq!((platform.pages.0.live(), platform.pages.0.leaked()), (live, 0));
}
