//! Blocking calls of a disk whose backend goes and comes back.

use super::*;
use pvkit_abi::bus::{DeviceState, Kind as MessageKind, StateChanged};
use pvkit_abi::status::{CallError, Status};
use pvkit_guest_drivers::error::RequestError;
use pvkit_guest_drivers::fake::Stored;
use zerocopy::IntoBytes;

#[test]
fn what_was_under_way_is_done_again_and_nothing_leaks() {
    let platform = with_disk();
    let memory = platform.pages.0.clone();
    let (mut bus, mut disk) = open_disk(&platform);
    disk.write(0, &[1; 512], LATE).unwrap();
    let before = memory.live();
    for round in 1..=3_u8 {
        let mut host = platform.calls.host();
        host.disconnect(1);
        host.reconnect(1);
        drop(host);
        let data = pattern(100 * 1024 + 512);
        disk.over(&mut bus).write(4096, &data, LATE).unwrap();
        disk.over(&mut bus).write_fua(512, &[round; 512], LATE).unwrap();
        let mut back = vec![0; data.len()];
        disk.over(&mut bus).read(4096, &mut back, LATE).unwrap();
        assert!(back == data, "round {round}");
        disk.over(&mut bus).flush(LATE).unwrap();
        let counters = disk.counters();
        assert_eq!((counters.reconnects, counters.replays), (round.into(), round.into()));
    }
    let mut both = [0; 1024];
    disk.read(0, &mut both, LATE).unwrap();
    assert_eq!((both[0], both[512]), (1, 3));
    assert_eq!((memory.live(), memory.leaked()), (before, 0));
}

#[test]
fn a_call_waits_for_the_backend_until_its_deadline_and_the_next_one_finds_it() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    platform.calls.host().disconnect(1);
    let soon = 1 << 20;
    assert_eq!(disk.over(&mut bus).write(0, &[7; 512], soon), Err(RequestError::TimedOut));
    assert_eq!((disk.outstanding(), disk.counters().quarantined), (0, 0));
    platform.calls.host().reconnect(1);
    disk.over(&mut bus).write(0, &[8; 512], LATE).unwrap();
    let mut back = [0; 512];
    disk.over(&mut bus).read(0, &mut back, LATE).unwrap();
    assert_eq!(back, [8; 512]);
    assert_eq!(disk.counters().reconnects, 1);
}

#[test]
fn a_disk_that_is_taken_away_for_good_is_gone_at_once() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    let mut host = platform.calls.host();
    host.disconnect(1);
    host.message(MessageKind::RESCIND, 1, u64::MAX, &[]);
    host.deliver();
    drop(host);
    assert_eq!(disk.over(&mut bus).write(0, &[7; 512], LATE), Err(RequestError::Disconnected));
}

#[test]
fn a_disk_with_other_blocks_is_not_taken_again() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    let mut host = platform.calls.host();
    host.disconnect(1);
    // The logical block stands behind the capacity.
    host.devices[0].offer.config[8..12].copy_from_slice(&4096_u32.to_le_bytes());
    host.reconnect(1);
    drop(host);
    assert_eq!(disk.over(&mut bus).write(0, &[7; 512], LATE), Err(RequestError::Disconnected));
    assert_eq!(disk.counters().reconnects, 0);
}

#[test]
fn a_disk_with_smaller_limits_is_not_taken_again_and_of_larger_ones_nothing_is_used() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    let data = pattern(100 * 1024);
    disk.write(0, &data, LATE).unwrap();
    for (limit, taken) in [(4096, false), (128 * 1024, true)] {
        let mut host = platform.calls.host();
        host.devices[0].offer.max_transfer = limit;
        host.disconnect(1);
        host.reconnect(1);
        drop(host);
        assert_eq!(disk.over(&mut bus).write(0, &data, LATE).is_ok(), taken, "{limit}");
    }
    assert_eq!(disk.sealed().max_transfer, 64 * 1024);
}

#[test]
fn a_host_that_goes_and_comes_for_ever_costs_a_deadline() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    let mut host = platform.calls.host();
    host.disconnect(1);
    for _ in 0..100 {
        host.reconnect(1);
        host.disconnect(1);
    }
    drop(host);
    assert_eq!(disk.over(&mut bus).flush(1 << 20), Err(RequestError::TimedOut));
}

#[test]
fn a_backend_that_dies_with_each_request_costs_a_deadline_if_no_request_is_suspected() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    disk.suspect(None);
    let mut host = platform.calls.host();
    host.deaf = true;
    for _ in 0..1000 {
        host.happenings.push_back(Box::new(|host| {
            host.disconnect(1);
            host.reconnect(1);
        }));
    }
    drop(host);
    let soon = platform.calls.host().clock() + 100_000;
    assert_eq!(disk.over(&mut bus).write(0, &[7; 512], soon), Err(RequestError::TimedOut));
    assert!(disk.counters().reconnects < 100);
    let mut host = platform.calls.host();
    host.happenings.clear();
    host.deaf = false;
    host.ring(1);
    drop(host);
    disk.over(&mut bus).write(0, &[8; 512], LATE).unwrap();
}

#[test]
fn an_offer_that_came_while_the_one_before_was_answered_is_taken_without_a_sleep() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    let mut host = platform.calls.host();
    host.disconnect(1);
    host.reconnect(1);
    // During the wait for the answer to ACCEPT: it is for an epoch that is over then.
    host.answers_left = 0;
    host.happenings.push_back(Box::new(|host| {
        host.disconnect(1);
        host.reconnect(1);
        host.answers_left = u32::MAX;
        host.kick();
    }));
    let before = host.counts.vain_waits;
    drop(host);
    disk.over(&mut bus).write(0, &[7; 512], LATE).unwrap();
    assert_eq!(disk.counters().reconnects, 1);
    assert_eq!(platform.calls.host().counts.vain_waits, before);
}

#[test]
fn a_loss_that_was_told_under_the_old_epoch_is_recovered_from_all_the_same() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    let mut host = platform.calls.host();
    host.deaf = true;
    let body = StateChanged { state: DeviceState::DISCONNECTED, reserved: [0; 3] };
    host.message(MessageKind::STATE_CHANGED, 1, disk.sealed().epoch, body.as_bytes());
    host.deliver();
    drop(host);
    let soon = platform.calls.host().clock() + 100_000;
    assert_eq!(disk.over(&mut bus).write(0, &[7; 512], soon), Err(RequestError::TimedOut));
    let mut host = platform.calls.host();
    host.deaf = false;
    host.disconnect(1);
    host.reconnect(1);
    drop(host);
    disk.over(&mut bus).write(0, &[8; 512], LATE).unwrap();
    assert_eq!((disk.counters().reconnects, disk.is_over()), (1, false));
}

#[test]
fn a_host_that_refuses_the_disk_as_it_was_is_told_as_that() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    let mut host = platform.calls.host();
    host.disconnect(1);
    host.reconnect(1);
    host.tamper = Box::new(|stored, bytes| {
        if stored == Stored::Reply {
            bytes[..4].copy_from_slice(&(CallError::SEALED.to_result() as i32).to_le_bytes());
        }
    });
    drop(host);
    let refused = Err(RequestError::Refused(CallError::SEALED));
    assert_eq!(disk.over(&mut bus).write(0, &[7; 512], LATE), refused);
}

#[test]
fn a_backend_that_goes_while_the_disk_is_opened_costs_no_page() {
    for answers in 0..3 {
        let platform = with_disk();
        let memory = platform.pages.0.clone();
        let (mut bus, mut disk) = open_disk(&platform);
        disk.write(0, &[1; 512], LATE).unwrap();
        let before = memory.live();
        let mut host = platform.calls.host();
        host.disconnect(1);
        host.reconnect(1);
        host.answers_left = answers;
        host.happenings.push_back(Box::new(|host| {
            host.disconnect(1);
            host.reconnect(1);
            host.answers_left = u32::MAX;
            host.kick();
        }));
        drop(host);
        disk.over(&mut bus).write(0, &[2; 512], LATE).unwrap();
        assert_eq!((memory.live(), memory.leaked()), (before, 0), "{answers}");
    }
}

#[test]
fn a_request_that_kills_the_backend_five_times_is_an_error_and_the_disk_works_on() {
    let platform = with_disk();
    let memory = platform.pages.0.clone();
    let (mut bus, mut disk) = open_disk(&platform);
    disk.write(0, &[1; 512], LATE).unwrap();
    let before = memory.live();
    for (kills, survives) in [(4, true), (5, false), (4, true)] {
        let mut host = platform.calls.host();
        host.deaf = true;
        for left in (0..kills).rev() {
            host.happenings.push_back(Box::new(move |host| {
                host.deaf = left > 0;
                host.disconnect(1);
                host.reconnect(1);
            }));
        }
        drop(host);
        let expected = if survives { Ok(()) } else { Err(RequestError::Io { status: Status::IO_ERROR, detail: 0 }) };
        assert_eq!(disk.over(&mut bus).write(0, &[7; 512], LATE), expected, "{kills}");
        assert!(platform.calls.host().happenings.is_empty());
    }
    disk.over(&mut bus).write(0, &[8; 512], LATE).unwrap();
    assert_eq!((memory.live(), memory.leaked()), (before, 0));
}
