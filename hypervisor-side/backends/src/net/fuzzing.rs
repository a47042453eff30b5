//! Parsers of the networks that are private elsewhere.

use super::{Frame, Inbox, Steering, passt, tap, user};
use std::net::SocketAddr;
use std::sync::Arc;

/// The way into a guest whose receive queues are all open.
#[must_use]
pub fn open_steering(mac: [u8; 6], inboxes: Vec<Arc<Inbox>>) -> Arc<Steering> {
    let steering = Steering::new(mac, inboxes);
    (0..steering.pairs()).for_each(|pair| steering.set_open(pair, true));
    steering
}

/// The answer of a relay that has nobody to ask, to a name message.
#[must_use]
pub fn name_failure(query: &[u8]) -> Option<Vec<u8>> {
    user::dns::failure(query)
}

/// The name servers of a resolver file.
#[must_use]
pub fn name_servers(text: &str) -> Vec<SocketAddr> {
    user::dns::parse(text)
}

/// What a TAP delivered, header first; and, if it is a frame, the header that would be written for it.
#[must_use]
pub fn tap_frame(bytes: &[u8], mtu: u16) -> Option<(Frame, bool)> {
    let frame = tap::parse(bytes, mtu).ok()?;
    let can_be_written = tap::vnet::emit(&frame).is_ok();
    Some((frame, can_be_written))
}

/// Reads a stream of frames as from passt; how many came, and whether the stream was malformed.
#[must_use]
pub fn passt_stream(stream: &[u8], steering: &Arc<Steering>) -> (u64, bool) {
    passt::read_all(stream, steering)
}
