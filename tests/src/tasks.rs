//! The host's side of the unikernel's `app=async`: a disk whose content is known, and a network whose gateway answers.

use crate::{Guest, Ran};
use pvkit_backends::RamDisk;
use pvkit_backends::net::user::{UserNetwork, UserOptions};
use pvkit_backends::net::{Inbox, Steering};
use pvkit_machine::{Device, Program};
use sha2::{Digest, Sha256};
use std::sync::Arc;

const PAGE: usize = 4096;

/// Runs as many readers as asked for over a disk of `pages`, `rounds` times, beside an echo and questions on the
/// network; compares every reader's digest with the disk's content.
///
/// # Panics
/// If the guest failed, or read something else.
#[must_use]
pub fn run(program: Program, pages: usize, readers: usize, rounds: u64) -> Ran {
    let words =
        (0..(pages * PAGE / 8) as u64).flat_map(|word| (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1).to_le_bytes());
    let disk = Arc::new(RamDisk::with_content(words.collect()));
    let content = disk.content();
    let inbox = Inbox::new(256).unwrap_or_else(|error| panic!("{error}"));
    let steering = Steering::new([2, 0, 0, 0, 0, 15], vec![inbox]);
    let options = UserOptions::default();
    let (own, bits, gateway) = (options.guest, options.prefix, options.gateway);
    let network = UserNetwork::start(options, steering.clone()).unwrap_or_else(|error| panic!("{error}"));
    let words = format!("app=async depth={readers} count={rounds} address={own}/{bits} other={gateway}");
    let ran = Guest::new(program, &words)
        .console()
        .disk(disk, "ram")
        .device(Device::Net { network, steering, mtu: 1500, label: "net".into() })
        .run();
    ran.expect_success();
    for reader in 0..readers {
        let mut digest = Sha256::new();
        content.chunks(PAGE).skip(reader).step_by(readers).for_each(|page| digest.update(page));
        let hex: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let line = format!("reader {reader} digest={hex}\n");
        assert!(ran.console.contains(&line), "{line}{}", ran.console);
    }
    assert_eq!(ran.number("async", "requests"), pages as u64 * rounds, "{}", ran.console);
    assert_eq!(ran.number("async", "answers"), rounds, "{}", ran.console);
    assert_eq!(ran.number("async", "lost"), 0, "{}", ran.console);
    println!("{}", ran.console.lines().last().unwrap_or_default());
    ran
}
