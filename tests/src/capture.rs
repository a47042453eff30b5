//! A capture of the frames on an interface of this process's own network, and a judgement of their checksums.

use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketType, recv, socket};
use rustix::time::Timespec;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Every Ethernet protocol (`ETH_P_ALL` of linux/if_ether.h).
const ALL: u16 = 3;

/// What the checksums of the captured frames are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// TCP or UDP over IPv4, right.
    pub right: u64,
    /// Only the pseudo header's sum is there: left for somebody to finish.
    pub begun: u64,
    /// Neither.
    pub wrong: u64,
}

/// A capture that runs.
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Judged>,
}

impl Capture {
    /// Looks at all frames from the address `mac`, until it is ended.
    ///
    /// # Panics
    /// If there is no socket for it.
    #[must_use]
    pub fn start(mac: [u8; 6]) -> Self {
        let protocol = NonZeroU32::new(u32::from(ALL.to_be())).map(Protocol::from_raw);
        let socket = socket(AddressFamily::PACKET, SocketType::RAW, protocol).unwrap_or_else(|error| panic!("{error}"));
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let thread = std::thread::spawn(move || look(&socket, mac, &until));
        Self { stop, thread }
    }

    /// What was seen.
    ///
    /// # Panics
    /// If the capture itself failed.
    #[must_use]
    pub fn end(self) -> Judged {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| panic!("the capture failed"))
    }
}

fn look(socket: &OwnedFd, mac: [u8; 6], until: &AtomicBool) -> Judged {
    let (mut judged, mut frame) = (Judged::default(), vec![0; 70_000]);
    while !until.load(Ordering::Relaxed) {
        let mut polled = [rustix::event::PollFd::new(socket, rustix::event::PollFlags::IN)];
        let patience = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        if rustix::event::poll(&mut polled, Some(&patience)).unwrap_or(0) == 0 {
            continue;
        }
        let length = recv(socket, &mut frame, RecvFlags::DONTWAIT).map_or(0, |(length, _)| length);
        judge(&frame[..length], mac, &mut judged);
    }
    judged
}

fn judge(frame: &[u8], mac: [u8; 6], judged: &mut Judged) {
    if frame.len() < 34 || frame[6..12] != mac || frame[12..14] != [8, 0] {
        return;
    }
    let header = usize::from(frame[14] & 15) * 4;
    let length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let (protocol, start) = (frame[23], 14 + header);
    let field = match protocol {
        6 => 16,
        17 => 6,
        _ => return,
    };
    let Some(segment) = frame.get(start..14 + length).filter(|segment| segment.len() >= field + 2) else { return };
    let mut pseudo = frame[26..34].to_vec();
    pseudo.extend([0, protocol]);
    pseudo.extend((segment.len() as u16).to_be_bytes());
    let said = u16::from_be_bytes([segment[field], segment[field + 1]]);
    let whole = sum(&[pseudo.as_slice(), segment].concat());
    if whole == 0xffff || protocol == 17 && said == 0 {
        judged.right += 1;
    } else if said == sum(&pseudo) {
        judged.begun += 1;
    } else {
        judged.wrong += 1;
    }
}

/// The ones' complement sum of 16-bit words (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u64 = words.map(u64::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP packet of `hello` from 10.0.0.1 to 10.0.0.2 with this checksum.
    fn frame(checksum: u16) -> Vec<u8> {
        let mut frame = vec![0; 14 + 20 + 13];
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 33, 0, 0, 0, 0, 64, 17]);
        frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        frame[34..40].copy_from_slice(&[0, 7, 0, 9, 0, 13]);
        frame[40..42].copy_from_slice(&checksum.to_be_bytes());
        frame[42..].copy_from_slice(b"hello");
        frame
    }

    #[test]
    fn right_begun_and_wrong_checksums_are_told_apart() {
        let judged = |checksum| {
            let mut judged = Judged::default();
            judge(&frame(checksum), [2, 0, 0, 0, 0, 1], &mut judged);
            (judged.right, judged.begun, judged.wrong)
        };
        let mut blank = frame(0);
        blank[40..42].copy_from_slice(&[0, 0]);
        let pseudo = sum(&[&blank[26..34], &[0, 17, 0, 13]].concat());
        let right = !sum(&[&blank[26..34], &[0, 17, 0, 13], &blank[34..]].concat());
        assert_eq!((judged(right), judged(pseudo), judged(right ^ 1)), ((1, 0, 0), (0, 1, 0), (0, 0, 1)));
    }
}
