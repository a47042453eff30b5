//! The console.

use super::*;
use pvkit_guest_drivers::error::{HostFault, RequestError};
use pvkit_guest_drivers::fake::{Kind, Stored};

fn platform() -> TestPlatform {
    fake::platform(vec![Device::console()])
}

fn output(platform: &TestPlatform) -> Vec<u8> {
    match &platform.calls.host().devices[0].kind {
        Kind::Console { output, .. } => output.clone(),
        _ => panic!("device 1 is a console"),
    }
}

#[test]
fn text_of_any_length_arrives_in_order() {
    for lazy in [false, true] {
        let platform = platform();
        let (_bus, mut console) = open_console(&platform);
        platform.calls.host().lazy = lazy;
        let text = pattern(70_001);
        console.write(&text, LATE).unwrap();
        console.write(b"!", LATE).unwrap();
        assert!(output(&platform) == [&text[..], b"!"].concat());
    }
}

#[test]
fn a_page_of_text_is_one_request() {
    let platform = platform();
    let (_bus, mut console) = open_console(&platform);
    console.write(&[b'x'; 4096], LATE).unwrap();
    assert_eq!(console.counters().requests, 1);
    assert_eq!(console.size(), (80, 25));
}

#[test]
fn input_that_comes_after_the_deadline_is_not_lost() {
    let platform = platform();
    let (_bus, mut console) = open_console(&platform);
    let mut typed = [0; 16];
    assert_eq!(console.read(&mut typed, 1 << 20), Err(RequestError::TimedOut));
    platform.calls.host().type_in(1, b"abc");
    assert_eq!(console.read(&mut typed, LATE), Ok(3));
    assert_eq!(typed[..3], *b"abc");
    assert_eq!(console.counters().requests, 1);
}

#[test]
fn input_longer_than_the_room_is_delivered_in_pieces() {
    let platform = platform();
    let (_bus, mut console) = open_console(&platform);
    platform.calls.host().type_in(1, b"abcdefgh");
    let mut typed = [0; 3];
    let mut all = Vec::new();
    while all.len() < 8 {
        let count = console.read(&mut typed, LATE).unwrap();
        all.extend_from_slice(&typed[..count]);
    }
    assert_eq!(all, b"abcdefgh");
}

#[test]
fn the_end_of_input_reads_as_zero_bytes() {
    let platform = platform();
    let (_bus, mut console) = open_console(&platform);
    if let Kind::Console { ended, .. } = &mut platform.calls.host().devices[0].kind {
        *ended = true;
    }
    assert_eq!(console.read(&mut [0; 4], LATE), Ok(0));
}

#[test]
fn writing_goes_on_while_a_read_waits() {
    let platform = platform();
    let (_bus, mut console) = open_console(&platform);
    assert_eq!(console.read(&mut [0; 4], 1 << 20), Err(RequestError::TimedOut));
    console.write(&pattern(40_000), LATE).unwrap();
    assert_eq!(output(&platform).len(), 40_000);
}

#[test]
fn a_host_that_claims_another_length_is_caught() {
    let platform = platform();
    let (_bus, mut console) = open_console(&platform);
    platform.calls.host().tamper = Box::new(|stored, bytes| {
        if stored == Stored::Completion {
            bytes[0] ^= 1;
        }
    });
    let caught = RequestError::PeerFault(HostFault::Length { asked: 4, claimed: 5 });
    assert_eq!(console.write(b"four", LATE), Err(caught));
}

#[test]
fn a_host_that_claims_more_input_than_there_is_room_is_caught() {
    let platform = platform();
    let (_bus, mut console) = open_console(&platform);
    platform.calls.host().type_in(1, b"abc");
    platform.calls.host().tamper = Box::new(|stored, bytes| {
        if stored == Stored::Completion {
            bytes[1] = 0x10;
        }
    });
    let caught = RequestError::PeerFault(HostFault::Length { asked: 4096, claimed: 4099 });
    assert_eq!(console.read(&mut [0; 8], LATE), Err(caught));
}
