//! TCP from the guest: bytes, ends, refusals, and very many of each.

use super::guest::{GATEWAY, Guest};
use super::*;
use sha2::{Digest, Sha256};
use smoltcp::iface::SocketHandle;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::{self, JoinHandle};

/// A server on loopback that runs `serve` for each of `count` clients; its port.
fn server(count: usize, serve: fn(TcpStream)) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let run = move || (0..count).for_each(|_| serve(listener.accept().unwrap().0));
    (port, thread::spawn(run))
}

/// Bytes that differ everywhere.
fn pattern(at: u64, into: &mut [u8]) {
    let mut state = at ^ 0x9e37_79b9_7f4a_7c15;
    for chunk in into.chunks_mut(8) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chunk.copy_from_slice(&(state ^ state >> 29).to_le_bytes()[..chunk.len()]);
    }
}

/// Sends all and reads until the end; gives what was read.
fn exchange(guest: &mut Guest, socket: SocketHandle, mut send: &[u8]) -> Vec<u8> {
    let mut got = Vec::new();
    let mut ended = false;
    guest.until("end of the stream", |guest| {
        let socket = guest.tcp(socket);
        if !send.is_empty() && socket.can_send() {
            send = &send[socket.send_slice(send).unwrap()..];
        }
        if send.is_empty() && !ended && socket.may_send() {
            ended = true;
            socket.close();
        }
        while socket.can_recv() {
            socket.recv(|bytes| (bytes.len(), got.extend_from_slice(bytes))).unwrap();
        }
        ended && !socket.may_recv()
    });
    got
}

fn echo_until_end(mut stream: TcpStream) {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    stream.write_all(&all).unwrap();
}

#[test]
fn each_direction_ends_by_itself() {
    let (port, server) = server(2, echo_until_end);
    let mut guest = Guest::new(open_loopback());
    // The answer comes after the end of the question: half-closed in between.
    for question in [&b"hello"[..], &[7; 100_000]] {
        let socket = guest.connect(GATEWAY, port);
        assert_eq!(exchange(&mut guest, socket, question), question);
    }
    server.join().unwrap();
    assert_eq!(guest.network.counters().broken_connections, 0);
}

#[test]
fn a_server_that_ends_first_still_hears_the_guest() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"done").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    });
    let mut guest = Guest::new(open_loopback());
    let socket = guest.connect(GATEWAY, port);
    guest.until("the server's end", |guest| guest.state(socket) == State::CloseWait);
    assert_eq!(exchange(&mut guest, socket, b"but I am not"), b"done");
    assert_eq!(server.join().unwrap(), b"but I am not");
}

#[test]
fn a_refusal_of_the_host_is_a_reset_for_the_guest() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut guest = Guest::new(open_loopback());
    let socket = guest.connect(GATEWAY, port);
    guest.until("the reset", |guest| guest.state(socket) == State::Closed);
    assert_eq!(guest.network.counters().refused_connections, 1);
}

#[test]
fn a_reset_passes_through_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut guest = Guest::new(open_loopback());

    let (socket, mut stream) = guest.connected(&listener);
    guest.tcp(socket).abort();
    guest.settle();
    assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    let (socket, stream) = guest.connected(&listener);
    guest.tcp(socket).send_slice(b"unread").unwrap();
    guest.settle();
    // The system resets a connection that is closed with bytes unread.
    drop(stream);
    guest.until("the reset", |guest| guest.state(socket) == State::Closed);
}

#[test]
fn short_connections_one_after_the_other() {
    let count = if long() { 10_000 } else { 1000 };
    // The server ends first: each connection passes TIME-WAIT on the host's side.
    let (port, server) = server(count, |mut stream| {
        let mut question = [0; 4];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(&question).unwrap();
    });
    let mut guest = Guest::new(open_loopback());
    let socket = guest.add_tcp(4096);
    for number in 0..count as u32 {
        guest.dial(socket, GATEWAY, port);
        guest.until("the question", |guest| guest.tcp(socket).send_slice(&number.to_le_bytes()).is_ok());
        guest.until("the answer", |guest| guest.tcp(socket).recv_queue() == 4);
        let mut answer = [0; 4];
        guest.tcp(socket).recv_slice(&mut answer).unwrap();
        assert_eq!(answer, number.to_le_bytes());
        guest.tcp(socket).close();
        guest.until("the end", |guest| matches!(guest.state(socket), State::Closed | State::TimeWait));
        guest.tcp(socket).abort();
        guest.step();
    }
    server.join().unwrap();
    let counters = guest.network.counters();
    assert_eq!((counters.connections, counters.refused_connections), (count as u64, 0));
}

/// Carries bytes both ways, one way after the other, and compares them by hash.
fn bulk(options: UserOptions, frames: usize, bytes: u64) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut block, mut hash, mut at) = (vec![0; 1 << 16], Sha256::new(), 0);
        while at < bytes {
            let length = stream.read(&mut block).unwrap();
            assert!(length > 0, "the guest's bytes end after {at}");
            hash.update(&block[..length]);
            at += length as u64;
        }
        let received = hash.finalize();
        let mut hash = Sha256::new();
        for at in (0..bytes).step_by(block.len()) {
            pattern(!at, &mut block);
            hash.update(&block);
            stream.write_all(&block).unwrap();
        }
        (received, hash.finalize())
    });
    let mut guest = Guest::with_inbox(options, frames);
    let socket = guest.add_tcp(1 << 18);
    guest.dial(socket, GATEWAY, port);
    let (mut block, mut left, mut at) = (vec![0; 1 << 16], 0..0, 0);
    let (mut out, mut incoming, mut received) = (Sha256::new(), Sha256::new(), 0);
    let start = std::time::Instant::now();
    let mut half = start;
    guest.until("last byte", |guest| {
        let socket = guest.tcp(socket);
        while socket.can_send() && at < bytes {
            if left.is_empty() {
                pattern(at, &mut block);
                out.update(&block);
                left = 0..block.len();
            }
            let sent = socket.send_slice(&block[left.clone()]).unwrap();
            left.start += sent;
            at += sent as u64;
            half = std::time::Instant::now();
        }
        while socket.can_recv() {
            let hash = |bytes: &mut [u8]| {
                incoming.update(&*bytes);
                (bytes.len(), bytes.len() as u64)
            };
            received += socket.recv(hash).unwrap();
        }
        received == bytes
    });
    let (server_received, server_sent) = server.join().unwrap();
    assert_eq!(out.finalize(), server_received, "from the guest");
    assert_eq!(incoming.finalize(), server_sent, "to the guest");
    let rate = |from: std::time::Instant, to: std::time::Instant| bytes as f64 / (to - from).as_secs_f64() / 1e6;
    println!("out {:.0} MB/s, in {:.0} MB/s", rate(start, half), rate(half, std::time::Instant::now()));
    assert_eq!(guest.inbox.dropped(), 0, "the guest's inbox never overflows");
}

#[test]
fn bulk_arrives_whole_both_ways() {
    bulk(open_loopback(), 4096, if long() { 1 << 30 } else { 64 << 20 });
}

#[test]
fn bulk_arrives_whole_with_large_packets() {
    bulk(UserOptions { mtu: 9000, ..open_loopback() }, 4096, if long() { 1 << 30 } else { 64 << 20 });
}

#[test]
fn a_guest_with_little_room_costs_waiting_and_no_loss() {
    bulk(open_loopback(), 8, 1 << 20);
}
