//! Meeting the host: negotiation, offers, epochs, deadlines.

use super::*;
use pvkit_abi::block::BlockConfig;
use pvkit_abi::bus::{DeviceState, Kind, StateChanged};
use pvkit_abi::status::CallError;
use pvkit_abi::version::{Group, RefusalReason, Version};
use pvkit_guest_drivers::error::{BusError, ConnectError, HostFault, Misuse, RequestError};
use zerocopy::{FromBytes, IntoBytes};

#[test]
fn negotiating_a_disk_and_a_console_takes_nine_hypercalls_and_no_wait() {
    let platform = with_disk_and_console();
    let (mut bus, _disk) = open_disk(&platform);
    let device = bus.find(Class::CONSOLE, 0).unwrap();
    let _console = Console::open(&mut bus, device, GrantPolicy::WholeRam, LATE).unwrap();
    let counts = platform.calls.host().counts;
    // NEGOTIATE, EVENT_ALLOC, BUS_SETUP; then for each device ACCEPT, EVENT_ALLOC, SHARE with OPEN_QUEUE.
    assert_eq!((counts.hypercalls, counts.waits), (9, 0));
    assert_eq!(bus.counters().hypercalls, 9);
}

#[test]
fn the_newest_version_that_both_know_is_chosen_and_no_unknown_feature() {
    let platform = with_disk();
    let (bus, _) = open_disk(&platform);
    let groups = bus.negotiated().groups();
    assert_eq!(groups.len(), 5);
    assert!(groups.iter().all(|group| group.minor == pvkit_abi::version::CURRENT.minor && group.features == 0));
    assert!(bus.negotiated().has(Group::CONSOLE) && !bus.negotiated().has(Group::VCPU));
}

#[test]
fn a_host_without_a_needed_group_is_refused_by_name() {
    let mut platform = with_disk();
    platform.calls.boot.groups[3].group = Group(99);
    assert_eq!(Bus::connect(&platform).err(), Some(ConnectError::GroupMissing(Group::SCHED)));
    assert_eq!(platform.calls.host().counts.hypercalls, 0);
}

#[test]
fn a_host_that_refuses_what_it_offered_is_quoted() {
    let platform = with_disk();
    platform.calls.host().tamper = Box::new(|stored, bytes| {
        if stored == fake::Stored::Result {
            bytes.copy_from_slice(&CallError::REFUSED.to_result().to_le_bytes());
        }
    });
    let (group, reason) = (Group(0), RefusalReason::NONE);
    assert_eq!(Bus::connect(&platform).err(), Some(ConnectError::Refused { group, reason, features: 0 }));
    // An ACCEPT is refused with a reason of its own.
    let platform = with_disk();
    let mut bus = Bus::connect(&platform).unwrap();
    platform.calls.host().tamper = Box::new(|stored, bytes| {
        if stored == fake::Stored::Reply {
            bytes[..4].copy_from_slice(&(CallError::REFUSED.to_result() as i32).to_le_bytes());
            bytes[16] = RefusalReason::UNKNOWN_FEATURE.0 as u8;
            bytes[24] = 4;
        }
    });
    let opened: Result<Block<'_, _>, _> = Block::open(&mut bus, 1, 8, GrantPolicy::Extent, LATE);
    let reason = RefusalReason::UNKNOWN_FEATURE;
    assert_eq!(opened.err(), Some(BusError::Declined { reason, features: 4 }));
}

#[test]
fn a_depth_of_one_is_rounded_up_to_the_smallest_queue() {
    let platform = with_disk();
    let mut bus = Bus::connect(&platform).unwrap();
    let mut disk: Block<'_, _> = Block::open(&mut bus, 1, 1, GrantPolicy::Extent, LATE).unwrap();
    assert_eq!(disk.sealed().depth, 2);
    disk.write(0, &[1; 512], LATE).unwrap();
}

#[test]
fn a_device_whose_backend_is_back_is_opened_anew() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    disk.write(0, &[5; 512], LATE).unwrap();
    platform.calls.host().disconnect(1);
    bus.poll().unwrap();
    disk.refresh(&bus).unwrap();
    assert_eq!(disk.read(0, &mut [0; 512], LATE).err(), Some(RequestError::Disconnected));
    disk.close(&mut bus, LATE).unwrap();
    let early: Result<Block<'_, _>, _> = Block::open(&mut bus, 1, 8, GrantPolicy::Extent, LATE);
    assert_eq!(early.err(), Some(BusError::Misuse(Misuse::NotOffered(1))));
    platform.calls.host().reconnect(1);
    bus.poll().unwrap();
    let mut disk: Block<'_, _> = Block::open(&mut bus, 1, 8, GrantPolicy::Extent, LATE).unwrap();
    let mut back = [0; 512];
    disk.read(0, &mut back, LATE).unwrap();
    assert_eq!(back, [5; 512]);
}

#[test]
fn a_feature_that_the_host_demands_and_nobody_knows_is_named() {
    let mut platform = with_disk();
    platform.calls.boot.groups[1].required = 0x10;
    let refused = ConnectError::FeaturesUnknown { group: Group::BUS, features: 0x10 };
    assert_eq!(Bus::connect(&platform).err(), Some(refused));
}

#[test]
fn boot_info_without_its_magic_is_no_host() {
    let mut platform = with_disk();
    platform.calls.boot.magic ^= 1;
    assert!(matches!(Bus::connect(&platform), Err(ConnectError::NotAHost(_))));
}

#[test]
fn a_boot_info_that_overstates_its_counts_is_cut() {
    let mut platform = with_disk();
    (platform.calls.boot.group_count, platform.calls.boot.region_count) = (u32::MAX, u32::MAX);
    open_disk(&platform);
}

#[test]
fn more_offers_than_the_queue_holds_arrive_all() {
    let platform = fake::platform((0..30).map(|instance| Device::disk(instance, 4096, 512)).collect());
    let bus = Bus::connect(&platform).unwrap();
    assert_eq!(bus.devices().count(), 30);
    assert!((0..30).all(|instance| bus.find(Class::BLOCK, instance) == Some(u32::from(instance) + 1)));
}

#[test]
fn offers_beyond_the_table_are_refused_and_the_rest_stays_usable() {
    let platform = fake::platform((0..40).map(|instance| Device::disk(instance, 4096, 512)).collect());
    let (bus, mut disk) = open_disk(&platform);
    assert_eq!(bus.devices().count(), pvkit_guest_drivers::MAX_DEVICES);
    assert_eq!(bus.counters().refused, 8);
    disk.write(0, &[1; 512], LATE).unwrap();
}

#[test]
fn every_impossible_number_in_an_offer_is_named() {
    type Change = fn(&mut pvkit_abi::bus::Offer);
    let config = |change: fn(&mut BlockConfig)| {
        move |offer: &mut pvkit_abi::bus::Offer| {
            let mut config = BlockConfig::read_from_bytes(&offer.config).unwrap();
            change(&mut config);
            offer.config.copy_from_slice(config.as_bytes());
        }
    };
    let limits: [(&str, Change); 6] = [
        ("max_depth", |offer| offer.max_depth = 1),
        ("max_depth", |offer| offer.max_depth = 8192),
        ("max_queues", |offer| offer.max_queues = 0),
        ("max_transfer", |offer| offer.max_transfer = 0),
        ("max_transfer", |offer| offer.max_transfer = 511),
        ("alignment", |offer| offer.alignment = 3),
    ];
    for (field, change) in limits {
        assert_eq!(fault_of(change), field);
    }
    assert_eq!(fault_of(config(|config| config.logical_block = 0)), "logical_block");
    assert_eq!(fault_of(config(|config| config.logical_block = 768)), "logical_block");
    assert_eq!(fault_of(config(|config| config.logical_block = 1 << 17)), "logical_block");
    assert_eq!(fault_of(config(|config| config.physical_block = 256)), "physical_block");
    assert_eq!(fault_of(config(|config| config.capacity = 1000)), "capacity");
}

/// The field that opening a disk complains about.
fn fault_of(change: impl Fn(&mut pvkit_abi::bus::Offer)) -> &'static str {
    let mut disk = Device::disk(0, DISK, 512);
    change(&mut disk.offer);
    let platform = fake::platform(vec![disk]);
    let mut bus = Bus::connect(&platform).unwrap();
    let opened: Result<Block<'_, _>, _> = Block::open(&mut bus, 1, 8, GrantPolicy::WholeRam, LATE);
    match opened {
        Err(BusError::PeerFault(HostFault::Offer { field, .. })) => field,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_of_a_later_generation_or_with_unknown_demands_is_unsupported() {
    for change in [
        |offer: &mut pvkit_abi::bus::Offer| offer.newest = Version { major: 1, minor: 0 },
        |offer: &mut pvkit_abi::bus::Offer| offer.required = 1 << 40,
    ] {
        let mut disk = Device::disk(0, DISK, 512);
        change(&mut disk.offer);
        let platform = fake::platform(vec![disk]);
        let mut bus = Bus::connect(&platform).unwrap();
        let opened: Result<Block<'_, _>, _> = Block::open(&mut bus, 1, 8, GrantPolicy::WholeRam, LATE);
        assert!(matches!(opened, Err(BusError::Unsupported { .. })), "{opened:?}");
    }
}

#[test]
fn a_device_is_opened_once_and_again_after_it_was_closed() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    let second: Result<Block<'_, _>, _> = Block::open(&mut bus, 1, 8, GrantPolicy::WholeRam, LATE);
    assert_eq!(second.err(), Some(BusError::Misuse(Misuse::NotOffered(1))));
    disk.write(0, &[7; 512], LATE).unwrap();
    disk.close(&mut bus, LATE).unwrap();
    let mut disk: Block<'_, _> = Block::open(&mut bus, 1, 8, GrantPolicy::Extent, LATE).unwrap();
    let mut back = [0; 512];
    disk.read(0, &mut back, LATE).unwrap();
    assert_eq!(back, [7; 512]);
}

#[test]
fn a_host_that_does_not_answer_ends_in_a_time_out_and_the_late_answer_is_dropped() {
    let platform = with_disk();
    let mut bus = Bus::connect(&platform).unwrap();
    platform.calls.host().answers_left = 0;
    let deadline = LATE / 2;
    let opened: Result<Block<'_, _>, _> = Block::open(&mut bus, 1, 8, GrantPolicy::WholeRam, deadline);
    assert_eq!(opened.err(), Some(BusError::TimedOut));
    assert_eq!(bus.counters().timeouts, 1);
    platform.calls.host().answers_left = u32::MAX;
    // The late ACCEPT is carried out now; the device is taken then, but nobody holds it.
    platform.calls.host().kick();
    bus.poll().unwrap();
    let again: Result<Block<'_, _>, _> = Block::open(&mut bus, 1, 8, GrantPolicy::WholeRam, LATE);
    assert_eq!(again.err(), Some(BusError::Refused(CallError::STALE)));
}

#[test]
fn an_answer_that_comes_during_the_wait_ends_it() {
    let platform = with_disk();
    platform.calls.host().lazy_bus = true;
    let (mut bus, mut disk) = open_disk(&platform);
    disk.close(&mut bus, LATE).unwrap();
    let counts = platform.calls.host().counts;
    assert_eq!((counts.waits, counts.vain_waits), (3, 0));
}

#[test]
fn a_reply_about_another_device_is_a_lie() {
    let platform = with_disk();
    let mut bus = Bus::connect(&platform).unwrap();
    platform.calls.host().tamper = Box::new(|stored, bytes| {
        if stored == fake::Stored::Reply {
            bytes[4] ^= 2;
        }
    });
    let opened: Result<Block<'_, _>, _> = Block::open(&mut bus, 1, 8, GrantPolicy::WholeRam, LATE);
    assert_eq!(opened.err(), Some(BusError::PeerFault(HostFault::Reply { field: "device", value: 3 })));
}

#[test]
fn messages_of_an_older_epoch_and_unknown_ones_are_answered_and_ignored() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    let gone = StateChanged { state: DeviceState::DISCONNECTED, reserved: [0; 3] };
    let mut host = platform.calls.host();
    host.message(Kind::STATE_CHANGED, 1, 1, gone.as_bytes());
    host.message(Kind(0x33), 1, 9, &[]);
    host.message(Kind::RESCIND, 77, 9, &[]);
    host.deliver();
    drop(host);
    bus.poll().unwrap();
    disk.refresh(&bus).unwrap();
    disk.write(0, &[1; 512], LATE).unwrap();
    let answers = platform.calls.host().answers();
    let errors = [CallError::STALE, CallError::UNKNOWN, CallError::NOT_FOUND].map(|error| error.to_result() as i32);
    assert_eq!(answers, [&[0][..], &errors].concat());
}

#[test]
fn an_overflow_makes_the_guest_ask_for_every_offer_again() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    let mut host = platform.calls.host();
    let mut config = BlockConfig::read_from_bytes(&host.devices[0].offer.config).unwrap();
    config.capacity /= 2;
    // The message about it is what was lost.
    host.devices[0].offer.config.copy_from_slice(config.as_bytes());
    host.message(Kind::OVERFLOW, 0, 1, &[]);
    host.deliver();
    drop(host);
    bus.poll().unwrap();
    assert!(disk.refresh(&bus).unwrap());
    assert_eq!(disk.geometry().capacity, DISK as u64 / 2);
    disk.write(0, &[1; 512], LATE).unwrap();
}

#[test]
fn waiting_on_the_bus_ends_when_the_host_speaks() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    bus.poll().unwrap();
    bus.wait(1 << 30).unwrap();
    let mut config = *disk.geometry();
    config.capacity *= 2;
    let mut host = platform.calls.host();
    let mut wire = BlockConfig::read_from_bytes(&host.devices[0].offer.config).unwrap();
    wire.capacity = config.capacity;
    host.change_config(1, wire.as_bytes().try_into().unwrap());
    let vain = host.counts.vain_waits;
    drop(host);
    bus.wait(LATE).unwrap();
    assert_eq!(platform.calls.host().counts.vain_waits, vain);
    bus.poll().unwrap();
    assert!(disk.refresh(&bus).unwrap());
    assert_eq!(disk.geometry().capacity, config.capacity);
}
