//! The bytes of one message of each kind, as they were when the version was fixed. A change of these is a change of the protocol:
//! it wants a new minor version, an entry in the change log, and `PVKIT_BLESS=1` to write the file anew.

use pvkit_abi::bus::{CONTROL_BYTES, Class};
use pvkit_abi::grant::GrantRef;
use pvkit_abi::status::CallError;
use pvkit_driver_domain::protocol::*;
use std::fmt::Write;
use std::path::Path;
use zerocopy::{FromZeros, IntoBytes};

fn of_each_kind() -> Vec<(&'static str, Message)> {
    let mut queue = OpenQueue::new_zeroed();
    queue.device = 1;
    (queue.queue, queue.completion_bytes, queue.depth) = (2, 8, 64);
    (queue.request_pages, queue.completion_pages) = (2, 1);
    (queue.epoch, queue.features) = (0x0102_0304_0506_0708, 0x1f);
    queue.pages[..3].copy_from_slice(&[0x1000, 0x2000, 0x7000]);
    let share =
        Share { device: 1, grant: GrantRef(0x0001_0002), offset: 0x1000, length: 0x20_0000, access: 3, reserved: 0 };
    let attach = Attach {
        device: 1,
        class: Class::NET,
        instance: 2,
        mac: [2, 0, 0, 1, 2, 3],
        mtu: 1500,
        pairs: 4,
        reserved: [0; 6],
        id: padded("root"),
    };
    let of_device = OfDevice { device: 7, reserved: 0 };
    let reply = HelloReply { magic: MAGIC, version: VERSION, reserved: 0, incarnation: 9, max_window: 1 << 34 };
    vec![
        ("hello", Message::Hello(Hello { magic: MAGIC, version: VERSION, reserved: 0, name: padded("guest") })),
        ("window", Message::Window(WindowBody { length: 64 << 20 })),
        ("attach", Message::Attach(attach)),
        ("open-queue", Message::OpenQueue(Box::new(queue))),
        ("close", Message::Close(of_device)),
        ("share", Message::Share(share)),
        ("revoke", Message::Revoke(Share { offset: 0, length: 0, access: 0, ..share })),
        ("control", Message::Control(Control { device: 1, operation: 3, length: 2, data: [5; CONTROL_BYTES] })),
        ("refresh", Message::Refresh(of_device)),
        ("counters", Message::Counters(of_device)),
        ("inspect", Message::Inspect(Inspect { place: 3, reserved: 0 })),
        ("totals", Message::Totals),
        ("reply-hello", Message::Reply(Kind::HELLO, Ok(reply.as_bytes().to_vec()))),
        ("reply-error", Message::Reply(Kind::CLOSE, Err(CallError::NOT_FOUND))),
        ("goodbye", Message::Goodbye),
        ("log", Message::Log(Log { line: padded("a line") })),
    ]
}

/// Bytes in hexadecimal; runs of zeros, of which there are many, as their number.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let zeros = rest.iter().take_while(|byte| **byte == 0).count();
        if zeros >= 8 {
            write!(text, " 0*{zeros}").unwrap();
            rest = &rest[zeros..];
        } else {
            write!(text, " {first:02x}").unwrap();
            rest = &rest[1..];
        }
    }
    text
}

#[test]
fn messages_are_as_they_were() {
    let lines = of_each_kind().into_iter().map(|(name, message)| format!("{name}:{}\n", shown(&message.emit(5))));
    let now: String = lines.collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/driver-domain-{VERSION}.txt"));
    if std::env::var_os("PVKIT_BLESS").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let then = std::fs::read_to_string(&path).unwrap();
    assert_eq!(now, then, "the protocol changed under the same version");
}

#[test]
fn each_kind_is_understood_as_it_was_meant() {
    for (name, message) in of_each_kind() {
        assert_eq!(Message::parse(&message.emit(5)), Ok((5, message)), "{name}");
    }
}

#[test]
fn a_message_that_is_cut_or_lengthened_is_refused() {
    for (name, message) in of_each_kind() {
        let whole = message.emit(1);
        for cut in 0..whole.len() {
            assert!(Message::parse(&whole[..cut]).is_err(), "{name} cut to {cut}");
        }
        let mut long = whole.clone();
        long.push(0);
        assert!(Message::parse(&long).is_err(), "{name} lengthened");
        let length = long.len() as u32;
        long[..4].copy_from_slice(&length.to_le_bytes());
        let refused = Message::parse(&long).is_err();
        // Only a good reply has a length of its own.
        assert!(refused || name == "reply-hello", "{name} lengthened, and saying so");
    }
}
