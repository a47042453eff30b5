//! Frames between a guest's port and the host's own stack.

use super::*;
use crate::net::offload::packets::SOURCE_MAC;
use crate::net::tests::port::{Receiver, receive_pair, run};
use crate::net::{PortControl, ReceiveQueue};
use pvkit_abi::net::ReceiveMode;
use std::net::{SocketAddr, UdpSocket};

/// The host is 10.0.2.2 at the address that [`Packet`] sends to, the guest 10.0.2.15 at the one that it sends from.
const GUEST: &str = "10.0.2.15:4660";

struct Wire {
    namespace: Namespace,
    tap: Arc<Tap>,
    control: PortControl,
    guest: Receiver,
    queue: ReceiveQueue,
    socket: UdpSocket,
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

fn wire(features: NetFeatures) -> Option<Wire> {
    let namespace = Namespace::enter()?;
    namespace.ip("tuntap add dev pvt0 mode tap");
    namespace.ip(&format!("link set pvt0 address {} up", mac(GUEST_MAC)));
    namespace.ip("addr add 10.0.2.2/24 dev pvt0");
    namespace.ip(&format!("neigh replace 10.0.2.15 lladdr {} dev pvt0", mac(SOURCE_MAC)));
    let steering = Steering::new(SOURCE_MAC, vec![Inbox::new(64).unwrap()]);
    let options = TapOptions { name: Some("pvt0".to_owned()), fd: None, mtu: 1500 };
    let tap = Tap::open(options, steering.clone()).unwrap();
    let control = PortControl::new(tap.clone(), steering.clone());
    let features = control.opened(1, features | NetFeatures::FILTER);
    steering.set_mode(ReceiveMode::empty());
    let (mut guest, queue) = receive_pair(64, features, steering, 0);
    guest.post(48, 2048);
    let socket = UdpSocket::bind("10.0.2.2:80").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    Some(Wire { namespace, tap, control, guest, queue, socket })
}

impl Wire {
    /// The next datagram that the host's stack accepted.
    fn heard(&self) -> Vec<u8> {
        let mut bytes = vec![0; 70_000];
        let (length, from) = self.socket.recv_from(&mut bytes).unwrap();
        assert_eq!(from, GUEST.parse::<SocketAddr>().unwrap());
        bytes.truncate(length);
        bytes
    }

    /// Sends a datagram to the guest and answers the frame that brought it. Sent again and again: an interface that has
    /// just got its carrier loses what is sent before the kernel has noticed.
    fn ask(&mut self, payload: &[u8]) -> (Vec<u8>, FrameMeta) {
        let Self { namespace, guest, queue, socket, .. } = self;
        let (mut found, mut tries) = (None, 0);
        namespace.until(|| {
            if tries % 20 == 0 {
                let _ = socket.send_to(payload, GUEST);
            }
            tries += 1;
            run(queue);
            guest.post(guest.front.room().min(8), 2048);
            found = guest.frames().into_iter().find(|(bytes, _)| bytes.get(42..) == Some(payload));
            found.is_some()
        });
        found.unwrap()
    }
}

/// A datagram from the host to the guest, for its checks.
fn answer(payload: &[u8]) -> Packet {
    Packet::new(Ip::V4, Transport::Udp, payload.to_vec())
}

#[test]
fn the_hosts_stack_takes_frames_whose_checksum_the_guest_left_partial() {
    let Some(wire) = wire(OFFLOADS) else { return };
    let packet = Packet::new(Ip::V4, Transport::Udp, b"partial".to_vec());
    wire.tap.send(Frame { bytes: packet.partial(), meta: packet.meta(0) });
    assert_eq!(wire.heard(), b"partial");
    let packet = Packet::new(Ip::V4, Transport::Udp, b"wrong".to_vec());
    wire.tap.send(Frame::finished(packet.partial()));
    let packet = Packet::new(Ip::V4, Transport::Udp, b"finished".to_vec());
    let mut frame = Frame { bytes: packet.partial(), meta: packet.meta(0) };
    crate::net::offload::checksum::finish(&mut frame).unwrap();
    wire.tap.send(Frame::finished(frame.bytes));
    assert_eq!(wire.heard(), b"finished", "and refuses one whose checksum is wrong");
    assert_eq!(wire.tap.counters().sent, 3);
}

#[test]
fn the_hosts_stack_cuts_what_the_guest_did_not() {
    let Some(wire) = wire(OFFLOADS) else { return };
    if !wire.tap.features().contains(NetFeatures::TX_USO) {
        println!("skipped: tap: this kernel does not segment UDP");
        return;
    }
    let payload: Vec<u8> = (0..5000u32).map(|i| (i / 7) as u8).collect();
    let packet = Packet::new(Ip::V4, Transport::Udp, payload.clone());
    wire.tap.send(Frame { bytes: packet.partial(), meta: packet.meta(1000) });
    let heard: Vec<_> = (0..5).map(|_| wire.heard()).collect();
    assert!(heard.iter().all(|part| part.len() == 1000));
    assert_eq!(heard.concat(), payload);
}

#[test]
fn a_guest_that_sealed_no_offload_gets_finished_frames() {
    let Some(mut wire) = wire(NetFeatures::empty()) else { return };
    let payload = [0x5a; 1400];
    let (bytes, meta) = wire.ask(&payload);
    assert_eq!((meta, &bytes[..6]), (FrameMeta::default(), SOURCE_MAC.as_slice()));
    assert!(is_right(&bytes));
}

#[test]
fn offloads_are_taken_from_the_host_only_while_the_guest_agrees() {
    let Some(mut wire) = wire(OFFLOADS | NetFeatures::MERGEABLE) else { return };
    let (bytes, meta) = wire.ask(b"left to the guest");
    assert_eq!(meta, answer(b"").meta(0), "the host's stack leaves it partial");
    let mut frame = Frame { bytes, meta };
    assert!(!is_right(&frame.bytes));
    crate::net::offload::checksum::finish(&mut frame).unwrap();
    assert!(is_right(&frame.bytes));
    wire.control.closed();
    // The queue still takes partial checksums; the TAP does not give them any more.
    wire.guest.steering.set_mode(ReceiveMode::empty());
    let (bytes, meta) = wire.ask(b"finished by the host");
    assert_eq!(meta.flags() & 1, 0);
    assert!(is_right(&bytes));
}

/// Whether a UDP frame over IPv4 from host to guest verifies, the slow way.
fn is_right(frame: &[u8]) -> bool {
    use crate::net::offload::packets::slow_sum;
    let datagram = &frame[34..];
    let pseudo = [&frame[26..34], &[0, 17], &(datagram.len() as u16).to_be_bytes(), datagram].concat();
    slow_sum(&frame[14..34]) == 0xffff && slow_sum(&pseudo) == 0xffff
}
