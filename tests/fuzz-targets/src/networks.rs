//! What the networks read: frames of guests, name messages, headers, streams.

use crate::input::Input;
use pvkit_abi::net::{FrameMeta, MAX_FRAME};
use pvkit_backends::fuzzing;
use pvkit_backends::net::{Frame, Inbox, Network, PortOptions, Steering, Switch, SwitchLimits, SwitchPort};
use std::sync::Arc;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ETHERNET_HEADER: usize = 14;

/// A port of the switch, and what it was made of.
struct Plug {
    port: Arc<SwitchPort>,
    steering: Arc<Steering>,
    mac: [u8; 6],
    isolated: bool,
    may_spoof: bool,
}

impl Plug {
    /// Frames that the switch handed to this port so far: without a queue, each ends in one of these counters.
    fn handed(&self) -> u64 {
        let counted = self.steering.counters();
        counted.filtered + counted.unwanted + counted.overrun
    }
}

fn plugs(input: &mut Input<'_>, switch: &Arc<Switch>) -> Vec<Plug> {
    let plug = |last: u8, isolated: bool| {
        let mac = [2, 0, 0, 0, 0, last + 1];
        let steering = Steering::new(mac, vec![Inbox::new(4).unwrap()]);
        let may_spoof = last == 0;
        let port = switch.port(PortOptions { isolated, may_spoof, ..PortOptions::new(steering.clone()) }).unwrap();
        Plug { port, steering, mac, isolated, may_spoof }
    };
    (0..3).map(|last| plug(last, input.below(2) == 1)).collect()
}

/// A switch learns within its limits, whoever claims what; no frame goes back, to an isolated port from another one, or in
/// a name that is not the sender's; each is counted once.
pub fn switch(data: &[u8]) {
    let mut input = Input::new(data);
    // Storms are told by a clock, of which an input knows nothing.
    let limits =
        SwitchLimits { addresses: 4, addresses_per_port: 2, floods_per_second: u32::MAX, ..SwitchLimits::default() };
    let switch = Switch::new(limits);
    let plugs = plugs(&mut input, &switch);
    while !input.is_empty() {
        let from = usize::from(input.below(3));
        let mut bytes = vec![0; 60];
        let group = if input.below(8) == 0 { 1 } else { 0 };
        bytes[..6].copy_from_slice(&[2 | group, 0, 0, 0, input.below(2), input.below(5)]);
        bytes[6..12].copy_from_slice(&[2, 0, 0, 0, input.below(2), input.below(5)]);
        bytes.truncate(usize::from(input.byte()).max(usize::from(input.byte())));
        sent(&plugs, from, Frame { bytes, meta: FrameMeta(input.u64()) });
        // Three are the ports' own.
        assert!(switch.learnt() <= 4 + 3);
    }
}

/// Sends a frame by port number `from`, and judges where it went.
fn sent(plugs: &[Plug], from: usize, frame: Frame) {
    let sender = &plugs[from];
    let handed: Vec<_> = plugs.iter().map(Plug::handed).collect();
    let (old, source, destination) = (sender.port.counters(), frame.source(), frame.destination());
    sender.port.send(frame);
    let now = sender.port.counters();
    let got: Vec<_> = plugs.iter().zip(&handed).map(|(plug, before)| plug.handed() - before).collect();
    let counted = [now.sent - old.sent, now.spoofed - old.spoofed, now.unreachable - old.unreachable];
    assert_eq!(counted.iter().sum::<u64>(), 1, "{counted:?}");
    assert_eq!(counted[0] == 1, got.iter().any(|count| *count > 0), "it was sent if somebody got it");
    assert!(counted[1] == 1 || source.is_some_and(|source| source == sender.mac || sender.may_spoof));
    let may_reach = |to: usize| to != from && !(sender.isolated && plugs[to].isolated);
    for (to, count) in got.iter().enumerate() {
        assert!(*count <= u64::from(may_reach(to)), "{count} from port {from} to port {to}");
        let is_meant = destination.is_some_and(|mac| mac[0] & 1 == 1 || mac == plugs[to].mac);
        assert!(counted[1] == 1 || !is_meant || *count == u64::from(may_reach(to)), "port {to} did not get it");
    }
}

/// An answer is as long as the question, and an answer.
pub fn dns(data: &[u8]) {
    if let Some(answer) = fuzzing::name_failure(data) {
        assert_eq!(answer.len(), data.len());
        assert!(answer[2] & 0x80 != 0 && data[2] & 0x80 == 0);
        assert_eq!((&answer[..2], &answer[4..]), (&data[..2], &data[4..]), "its number and its question");
        assert_eq!(fuzzing::name_failure(&answer), None);
    }
}

/// A resolver file names a few servers at most, each of which stands in it.
pub fn resolvers(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let servers = fuzzing::name_servers(&text);
    assert!(servers.len() <= 8 && servers.iter().all(|server| server.port() == 53));
    assert!(servers.len() <= text.matches("nameserver").count());
}

/// What a TAP delivers is refused, or a frame that could be written back.
pub fn tap(data: &[u8]) {
    if let Some((frame, can_be_written)) = fuzzing::tap_frame(data, 1500) {
        assert!(can_be_written && frame.bytes.len() + 10 == data.len());
    }
}

/// What stands in a stream, read once more; and whether it ends by a length that no frame has.
fn frames_of(mut stream: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut frames = Vec::new();
    while let Some((length, rest)) = stream.split_first_chunk() {
        let length = u32::from_be_bytes(*length) as usize;
        if !(ETHERNET_HEADER..=MAX_FRAME).contains(&length) {
            return (frames, true);
        }
        let Some((frame, behind)) = rest.split_at_checked(length) else { break };
        frames.push(frame);
        stream = behind;
    }
    (frames, false)
}

/// The frames that come out of a stream are those that went in, in order, as far as the filter lets them.
pub fn passt(data: &[u8]) {
    let inbox = Inbox::new(data.len()).unwrap();
    let steering = fuzzing::open_steering(MAC, vec![inbox.clone()]);
    let (count, malformed) = fuzzing::passt_stream(data, &steering);
    let (frames, is_bad) = frames_of(data);
    assert_eq!((count, malformed), (frames.len() as u64, is_bad));
    let is_ours = |frame: &&&[u8]| frame[0] & 1 == 1 || frame[..6] == MAC;
    for expected in frames.iter().filter(is_ours) {
        assert_eq!(inbox.pop().expect("another frame").bytes, *expected);
    }
    assert!(inbox.is_empty());
    assert_eq!(steering.counters().filtered, frames.iter().filter(|frame| !is_ours(frame)).count() as u64);
}
