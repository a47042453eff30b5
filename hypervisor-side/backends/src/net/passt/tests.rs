use super::*;
use crate::net::Inbox;
use std::os::unix::net::UnixListener;

const FRAME: [u8; 60] = [0x5a; 60];

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn start() -> (tempfile::TempDir, UnixListener, Arc<Passt>, UnixStream) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passt.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let steering = Steering::new([2, 0, 0, 0, 0, 1], vec![Inbox::new(4).unwrap()]);
    let network = Passt::connect(&path, steering).unwrap();
    let (peer, _) = listener.accept().unwrap();
    (folder, listener, network, peer)
}

fn framed(frame: &[u8]) -> Vec<u8> {
    [&(frame.len() as u32).to_be_bytes(), frame].concat()
}

#[test]
fn frames_go_out_behind_their_length() {
    let (_folder, _listener, network, mut peer) = start();
    for length in [14, 60, 1514, MAX_FRAME] {
        network.send(Frame::finished(vec![7; length]));
        let mut bytes = vec![0; 4 + length];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, framed(&vec![7; length]));
    }
    until("four frames are counted", || network.counters().sent == 4);
}

#[test]
fn frames_come_in_however_they_are_cut() {
    let (_folder, _listener, network, mut peer) = start();
    let two = [framed(&FRAME), framed(&FRAME)].concat();
    for piece in two.chunks(7) {
        peer.write_all(piece).unwrap();
    }
    until("two frames are counted", || network.counters().received == 2);
}

#[test]
fn length_that_no_frame_has_ends_the_connection_and_the_next_one_works() {
    for lie in [0, 13, MAX_FRAME as u32 + 1, u32::MAX] {
        let (_folder, listener, network, mut peer) = start();
        peer.write_all(&lie.to_be_bytes()).unwrap();
        until("the lie is counted", || network.counters().malformed == 1);
        assert_eq!(peer.read(&mut [0; 1]).unwrap_or(0), 0, "the connection is closed");
        drop(peer);
        listener.set_nonblocking(true).unwrap();
        let mut next = None;
        until("the connection is made again", || {
            network.send(Frame::finished(FRAME.to_vec()));
            next = listener.accept().ok();
            next.is_some()
        });
        until("it is counted", || network.counters().connections == 2);
        let (peer, _) = next.unwrap();
        peer.set_nonblocking(false).unwrap();
        (&peer).write_all(&framed(&FRAME)).unwrap();
        until("a frame comes by it", || network.counters().received == 1);
    }
}

#[test]
fn peer_that_does_not_read_costs_frames_and_no_time() {
    let (_folder, _listener, network, peer) = start();
    for _ in 0..20_000 {
        network.send(Frame::finished(vec![0; 1514]));
    }
    assert!(network.counters().dropped > 0);
    drop(peer);
    drop(network);
}

#[test]
fn nobody_at_the_socket_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let steering = Steering::new([2, 0, 0, 0, 0, 1], vec![Inbox::new(4).unwrap()]);
    assert!(Passt::connect(&folder.path().join("none"), steering).is_err());
}
