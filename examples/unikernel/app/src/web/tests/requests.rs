//! What honest clients get.

use super::world::{World, body};
use sha2::{Digest, Sha256};
use std::format;
use std::string::String;
use std::vec::Vec;

const MIB: usize = 1 << 20;

fn big(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[test]
fn a_file_comes_with_its_length_and_kind() {
    let mut world = World::new();
    let answer = world.ask("GET /a.txt");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\nContent-Length: 5\r\n") && answer.contains("text/plain"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
    assert!(world.ask("GET /empty").contains("\r\nContent-Length: 0\r\n"));
    assert_eq!((world.server.counters.connections, world.server.counters.refused), (2, 0));
}

#[test]
fn the_index_lists_and_head_has_no_body() {
    let mut world = World::new();
    assert!(world.ask("GET /").ends_with("\r\n\r\n    5 /a.txt\n"));
    for target in ["/", "/a.txt", "/log", "/none"] {
        let answer = world.ask(&format!("HEAD {target}"));
        assert!(answer.ends_with("\r\n\r\n") && answer.contains("\r\nContent-Length: "), "{answer}");
        assert!(!answer.contains("Content-Length: 0"), "{answer}");
    }
}

#[test]
fn a_large_file_arrives_whole_also_when_frames_are_lost() {
    for (lose_every, length) in [(0, 4 * MIB), (13, MIB / 4)] {
        let mut world = World::new();
        let file = big(length + 17);
        world.files.files.insert(b"/big".to_vec(), file.clone());
        world.server_card.lose_every = lose_every;
        let answer = world.exchange(b"GET /big HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n");
        assert_eq!(Sha256::digest(body(&answer)), Sha256::digest(&file), "one lost in {lose_every}");
        assert!(world.files.largest <= 64 * 1024, "a read of {} bytes", world.files.largest);
    }
}

#[test]
fn a_post_is_acknowledged_with_its_number_and_counted() {
    let mut world = World::new();
    for sequence in 0..3 {
        let post =
            format!("POST /log HTTP/1.1\r\nHost: s\r\nConnection: close\r\nContent-Length: 2\r\n\r\nt{sequence}");
        let answer = world.exchange(post.as_bytes());
        assert_eq!(body(&answer), format!("acked {sequence}\n").as_bytes());
    }
    assert!(world.ask("GET /log").ends_with("\r\n\r\n3\n"));
    assert_eq!(world.records.texts, [b"t0", b"t1", b"t2"]);
    assert!(world.ask("POST /log").starts_with("HTTP/1.1 507 "));
    world.records.failing = true;
    assert!(world.ask("POST /log").starts_with("HTTP/1.1 500 "));
    assert!(world.ask("GET /log").ends_with("\r\n\r\n3\n"), "nothing is acknowledged that failed");
}

#[test]
fn one_connection_carries_many_requests_sent_at_once() {
    let mut world = World::new();
    let mut text = String::new();
    for _ in 0..50 {
        text += "GET /a.txt HTTP/1.1\r\nHost: s\r\n\r\nPOST /none HTTP/1.1\r\nHost: s\r\nContent-Length: 3\r\n\r\nabc";
    }
    let answers = String::from_utf8(world.exchange(text.as_bytes())).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 50);
    assert_eq!(answers.matches("HTTP/1.1 405 ").count(), 50);
    assert_eq!(answers.matches("Allow: GET, HEAD, POST").count(), 50);
    assert_eq!(answers.matches("Connection: keep-alive").count(), 100);
    assert_eq!((world.server.counters.connections, world.server.counters.requests), (1, 100));
}

#[test]
fn the_server_ends_the_connection_when_asked_to() {
    let mut world = World::new();
    let client = world.connect(4096);
    let two = b"GET /a.txt HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\nGET /a.txt HTTP/1.1\r\nHost: s\r\n\r\n";
    let heard = world.talk(client, two, false);
    assert_eq!(body(&heard), b"hello");
}

#[test]
fn a_client_that_waits_for_a_word_before_its_body_gets_it() {
    let mut world = World::new();
    let client = world.connect(4096);
    world.steps(5);
    let head = b"POST /log HTTP/1.1\r\nHost: s\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    world.socket(client).send_slice(head).unwrap();
    world.steps(20);
    let mut heard = [0; 4096];
    let count = world.socket(client).recv_slice(&mut heard).unwrap();
    assert_eq!(heard[..count], *b"HTTP/1.1 100 Continue\r\n\r\n");
    let rest = world.talk(client, b"ab", true);
    assert_eq!(body(&rest), b"acked 0\n");
}

#[test]
fn more_clients_than_sockets_are_all_served_in_the_end() {
    let mut world = World::new();
    for _ in 0..50 {
        assert!(world.ask("GET /a.txt").ends_with("hello"));
    }
    assert_eq!(world.server.counters.connections, 50);
}

#[test]
fn an_idle_server_does_not_ask_to_be_called() {
    let mut world = World::new();
    let client = world.connect(4096);
    world.steps(50);
    world.socket(client).send_slice(b"GET /a.txt HTTP/1.1\r\nHost: s\r\n\r\n").unwrap();
    world.steps(2000);
    let before = world.busy;
    // DHCP, which nobody answers here, speaks now and then.
    world.steps(20_000);
    assert!(world.busy - before < 20, "{} polls in vain", world.busy - before);
}

#[test]
fn a_record_waits_while_writes_are_held_back() {
    let mut world = World::new();
    world.records.held = true;
    let post = b"POST /log HTTP/1.1\r\nHost: s\r\nConnection: close\r\nContent-Length: 2\r\n\r\nt0";
    let client = world.connect(64 * 1024);
    while !world.socket(client).may_send() {
        world.step();
    }
    world.socket(client).send_slice(post).unwrap();
    for _ in 0..200 {
        world.step();
    }
    assert!(!world.socket(client).can_recv() && world.records.texts.is_empty());
    assert!(world.ask("GET /a.txt").ends_with("hello"), "reads go on");
    world.records.held = false;
    assert_eq!(body(&world.talk(client, b"", false)), b"acked 0\n");
    assert_eq!(world.records.texts, [b"t0"]);
}
