//! The entropy driver.

use super::*;
use pvkit_abi::status::Status;
use pvkit_guest_drivers::Entropy;
use pvkit_guest_drivers::error::{HostFault, RequestError};

fn platform() -> TestPlatform {
    fake::platform(vec![Device::entropy()])
}

fn open(platform: &TestPlatform) -> (Bus<'_, TestPlatform>, Entropy<'_, TestPlatform>) {
    let mut bus = Bus::connect(platform).unwrap();
    let entropy = Entropy::open(&mut bus, 1, GrantPolicy::Extent, LATE).unwrap();
    (bus, entropy)
}

#[test]
fn bytes_of_any_number_are_filled_in_order() {
    let platform = platform();
    let (_bus, mut entropy) = open(&platform);
    let mut bytes = vec![0; 10_000];
    entropy.read(&mut bytes, LATE).unwrap();
    assert!(bytes.iter().zip(1u64..).all(|(byte, count)| *byte == count as u8));
}

#[test]
fn a_host_that_claims_no_bytes_or_too_many_is_caught() {
    let platform = platform();
    let (_bus, mut entropy) = open(&platform);
    for claimed in [0, 17] {
        platform.calls.host().devices[0].statuses.push_back(Some((Status::OK, claimed)));
        let caught = RequestError::PeerFault(HostFault::Length { asked: 16, claimed });
        assert_eq!(entropy.read(&mut [0; 16], LATE), Err(caught));
    }
    entropy.read(&mut [0; 16], LATE).unwrap();
}

#[test]
fn a_read_that_timed_out_keeps_its_page_until_the_host_lets_go() {
    let platform = platform();
    let (mut bus, mut entropy) = open(&platform);
    let live = platform.pages.0.live();
    platform.calls.host().deaf = true;
    assert_eq!(entropy.read(&mut [0; 16], 1 << 30), Err(RequestError::TimedOut));
    assert_eq!(platform.pages.0.live(), live + 1);
    platform.calls.host().deaf = false;
    platform.calls.host().ring(1);
    entropy.read(&mut [0; 16], LATE).unwrap();
    assert_eq!(platform.pages.0.live(), live);
    entropy.close(&mut bus, LATE).unwrap();
    assert_eq!(platform.pages.0.leaked(), 0);
}
