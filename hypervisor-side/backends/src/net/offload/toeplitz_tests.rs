use super::*;
use crate::net::offload::packets::{Ip, Packet, Transport};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The key of Microsoft's examples.
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b,
    0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac,
    0x01, 0xfa,
];

/// Hash of addresses alone, and with ports.
fn both(mut input: Vec<u8>, source: u16, destination: u16) -> (u32, u32) {
    let narrow = toeplitz(&KEY, &input);
    input.extend(source.to_be_bytes());
    input.extend(destination.to_be_bytes());
    (narrow, toeplitz(&KEY, &input))
}

#[test]
fn the_published_examples_for_ipv4_hold() {
    let cases = [
        ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323e_8fc2, 0x51cc_c178),
        ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xd718_262a, 0xc626_b0ea),
        ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xd2d0_a5de, 0x5c2b_394a),
        ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x8298_9176, 0xafc7_327f),
        ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5d18_09c5, 0x10e8_28a2),
    ];
    for (source, from, destination, to, narrow, wide) in cases {
        let octets = |text: &str| text.parse::<Ipv4Addr>().unwrap().octets();
        let input = [octets(source), octets(destination)].concat();
        assert_eq!(both(input, from, to), (narrow, wide), "{source}");
    }
}

#[test]
fn the_published_examples_for_ipv6_hold() {
    let cases = [
        ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2cc1_8cd5, 0x4020_7d3d),
        ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0f0c_461c, 0xdde5_1bbf),
        ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, "fe80::200:f8ff:fe21:67cf", 38024, 0x4b61_e985, 0x02d1_feef),
    ];
    for (source, from, destination, to, narrow, wide) in cases {
        let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        let input = [octets(source), octets(destination)].concat();
        assert_eq!(both(input, from, to), (narrow, wide), "{source}");
    }
}

fn rss(kinds: &[HashKind]) -> Rss {
    Rss { kinds: kinds.iter().map(|kind| 1 << kind.0).sum(), key: KEY, table: [0; 32] }
}

#[test]
fn a_frame_is_hashed_over_what_is_allowed_and_there() {
    let packet = Packet::new(Ip::V4, Transport::Tcp, vec![1; 9]);
    let frame = packet.partial();
    let (narrow, wide) = both(vec![10, 0, 2, 15, 10, 0, 2, 2], 0x1234, 80);
    let kinds = [HashKind::IPV4, HashKind::TCP4];
    assert_eq!(hash_frame(&frame, &rss(&kinds)), Some((wide, HashKind::TCP4)));
    assert_eq!(hash_frame(&frame, &rss(&[HashKind::IPV4, HashKind::UDP4])), Some((narrow, HashKind::IPV4)));
    assert_eq!(hash_frame(&frame, &rss(&[HashKind::UDP4, HashKind::IPV6])), None);
    let mut fragment = frame;
    fragment[20] = 0x20;
    assert_eq!(hash_frame(&fragment, &rss(&kinds)), Some((narrow, HashKind::IPV4)));
    assert_eq!(hash_frame(&fragment, &rss(&[HashKind::TCP4])), None);
}
