//! What other clients get, and that it costs nobody else anything.

use super::world::{World, body};
use crate::web::connection::PATIENCE_NS;
use crate::web::server::CONNECTIONS;
use proptest::prelude::*;
use smoltcp::socket::tcp;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

fn status(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).split(' ').nth(1).unwrap_or("none").into()
}

#[test]
fn bad_requests_get_their_status_and_the_connection_ends() {
    let long = "a".repeat(9000);
    for (text, expected) in [
        (String::from("\x16\x03\x01\x02 hello"), "400"),
        (String::from("GET / HTTP/1.1\r\n\r\n"), "400"),
        (String::from("GET /../etc HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n"), "400"),
        (String::from("GET /none HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n"), "404"),
        (String::from("PUT / HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n"), "405"),
        (String::from("POST /log HTTP/1.1\r\nHost: s\r\nContent-Length: 401\r\n\r\n"), "413"),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), "414"),
        (format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n"), "431"),
        (String::from("POST /log HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n"), "501"),
    ] {
        let mut world = World::new();
        let client = world.connect(4096);
        let answer = world.talk(client, text.as_bytes(), false);
        assert_eq!(status(&answer), expected, "{text:.60}");
        assert_eq!(world.server.counters.refused, 1);
        assert!(world.records.texts.is_empty());
    }
}

#[test]
fn a_client_that_takes_nothing_holds_up_nobody_and_is_reset() {
    let mut world = World::new();
    world.files.files.insert(b"/big".to_vec(), vec![7; 1 << 20]);
    let slow = world.connect(1024);
    world.steps(5);
    world.socket(slow).send_slice(b"GET /big HTTP/1.1\r\nHost: s\r\n\r\n").unwrap();
    world.steps(300);
    assert!(world.ask("GET /a.txt").ends_with("hello"));
    world.steps((PATIENCE_NS / 1_000_000) as u32 + 1000);
    assert_eq!(world.server.counters.slow, 1);
    assert_eq!(world.socket(slow).state(), tcp::State::Closed);
}

#[test]
fn clients_that_say_nothing_lose_their_sockets_to_those_that_do() {
    let mut world = World::new();
    let silent: Vec<_> = (0..CONNECTIONS).map(|_| world.connect(512)).collect();
    world.steps(50);
    assert!(silent.iter().all(|client| world.sockets.get::<tcp::Socket<'_>>(*client).may_send()));
    // A byte now and then does not help.
    for byte in b"GET / HTTP/1.1\r\nHost: slow\r\nX: aaaaaaaa" {
        for client in &silent {
            let _ = world.socket(*client).send_slice(&[*byte]);
        }
        world.steps(1000);
    }
    assert_eq!(world.server.counters.slow, CONNECTIONS as u64);
    assert!(world.ask("GET /a.txt").ends_with("hello"));
}

#[test]
fn a_file_that_cannot_be_read_ends_in_a_reset_and_not_in_a_short_answer() {
    let mut world = World::new();
    world.files.files.insert(b"/bad".to_vec(), vec![7; 100_000]);
    world.files.bad = b"/bad".to_vec();
    let answer = world.exchange(b"GET /bad HTTP/1.1\r\nHost: s\r\n\r\n");
    assert!(answer.len() < 100_000);
    assert_eq!(world.server.counters.broken, 1);
    assert!(world.ask("GET /a.txt").ends_with("hello"));
}

#[test]
fn a_client_that_vanishes_in_the_middle_frees_its_socket() {
    let mut world = World::new();
    world.files.files.insert(b"/big".to_vec(), vec![7; 1 << 20]);
    for _ in 0..2 * CONNECTIONS {
        let client = world.connect(4096);
        world.steps(5);
        world.socket(client).send_slice(b"GET /big HTTP/1.1\r\nHost: s\r\n\r\n").unwrap();
        world.steps(5);
        world.socket(client).abort();
        world.steps(5);
    }
    assert_eq!(world.server.counters.connections, 2 * CONNECTIONS as u64);
    assert!(world.ask("GET /a.txt").ends_with("hello"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn whatever_bytes_come_the_next_client_is_served(
        pieces in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..2000),
                Just(b"GET /a.txt HTTP/1.1\r\nHost: s\r\n\r\n".to_vec()),
                Just(b"POST /log HTTP/1.1\r\nHost: s\r\nContent-Length: 9\r\n\r\n".to_vec()),
            ],
            0..6,
        ),
    ) {
        let mut world = World::new();
        let client = world.connect(64 * 1024);
        let heard = world.talk(client, &pieces.concat(), true);
        prop_assert!(heard.is_empty() || heard.starts_with(b"HTTP/1.1 "));
        let answer = world.exchange(b"GET /a.txt HTTP/1.1\r\nHost: s\r\n\r\n");
        prop_assert_eq!(body(&answer), b"hello");
    }
}
