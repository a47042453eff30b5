//! The API socket of a run: who may open it can look at the guest and speak to it.
//!
//! *Protocol.* A UNIX stream socket; a question is one JSON object on a line, `{"api": 1, "do": "inspect"}`, and so is its
//! answer: `{"ok": ...}` or `{"error": "..."}`. Questions are `question.rs`'s words. A connection may ask many, one after the
//! other. Lines are at most [`MAX_LINE`] bytes, connections at most [`server::MAX_CLIENTS`], and a client that is slower
//! than [`server::PATIENCE`] is left.
//!
//! *Owners.* The socket belongs to the run: mode 0600, made at its start, gone at its end. One that a killed run left behind
//! is replaced; one that answers is not.

pub mod client;
pub mod daemon;
pub mod question;
pub mod server;
mod show;

pub use question::Verb;

/// Version of the protocol.
const VERSION: u64 = 1;
/// Longest line, its end included.
const MAX_LINE: u64 = 1 << 20;
