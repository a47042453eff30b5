//! What monitor and daemon say to each other: facts only.
//!
//! *Transport.* A UNIX socket of type `SOCK_SEQPACKET`: one packet is one message, with the descriptors that belong to it.
//! *Byte order.* Little endian. *Who checks.* A message is an allegation until its reader has checked it: [`Message::parse`]
//! judges form, the reader judges meaning. `README.md` beside this crate says what each message does and in which order.

mod message;
mod wire;

pub use message::{Message, ParseError};
pub use wire::*;
