//! The console by the traits of `embedded-io`.

use super::*;
use crate::waking::{poll, serve};
use core::pin::pin;
use core::task::{Poll, Waker};
use embedded_io::{Error, ErrorKind, Read, ReadReady, Write, WriteReady};
use pvkit_guest_drivers::asynchronous::Interrupt;
use pvkit_guest_drivers::console::AsyncConsole;
use pvkit_guest_drivers::fake::Kind;

fn output(platform: &TestPlatform) -> Vec<u8> {
    match &platform.calls.host().devices[0].kind {
        Kind::Console { output, .. } => output.clone(),
        _ => panic!("device 1 is a console"),
    }
}

/// Knows nothing of consoles.
fn shout<S: Read + Write>(stream: &mut S) -> Result<(), S::Error> {
    let mut typed = [0; 3];
    let count = stream.read(&mut typed)?;
    typed.make_ascii_uppercase();
    stream.write_all(&typed[..count])?;
    stream.flush()
}

#[test]
fn code_that_knows_no_console_reads_and_writes_one() {
    let platform = fake::platform(vec![Device::console()]);
    let (_bus, mut console) = open_console(&platform);
    let mut io = console.io(1 << 20);
    assert!(!io.read_ready().unwrap());
    platform.calls.host().type_in(1, b"abcde");
    platform.calls.host().ring(1);
    assert!(io.read_ready().unwrap() && io.write_ready().unwrap());
    shout(&mut io).unwrap();
    shout(&mut io).unwrap();
    assert_eq!(shout(&mut io).map_err(|error| error.kind()), Err(ErrorKind::TimedOut));
    io.write_all(&pattern(70_001)).unwrap();
    io.flush().unwrap();
    assert!(output(&platform) == [b"ABCDE", &pattern(70_001)[..]].concat());
}

#[test]
fn a_queue_that_is_full_is_not_ready_to_be_written() {
    let platform = fake::platform(vec![Device::console()]);
    let (_bus, mut console) = open_console(&platform);
    platform.calls.host().deaf = true;
    let mut io = console.io(1 << 20);
    let mut written = 0;
    while io.write_ready().unwrap() {
        written += io.write(b"abc").unwrap();
    }
    assert_eq!(written, 8 * 3);
    assert_eq!(io.write(b"abc").map_err(|error| error.kind()), Err(ErrorKind::TimedOut));
    assert_eq!(io.write(b""), Ok(0));
}

#[test]
fn the_same_holds_for_futures() {
    async fn shout<S: embedded_io_async::Read + embedded_io_async::Write>(mut stream: S) -> Result<(), S::Error> {
        let mut typed = [0; 8];
        let count = stream.read(&mut typed).await?;
        typed.make_ascii_uppercase();
        stream.write_all(&typed[..count]).await?;
        stream.flush().await
    }
    let (platform, interrupt) = (fake::platform(vec![Device::console()]), Interrupt::new());
    let (_bus, console) = open_console(&platform);
    platform.calls.host().lazy = true;
    let console: AsyncConsole<'_, '_, _> = AsyncConsole::new(console, &interrupt);
    platform.calls.host().type_in(1, b"abc");
    let mut task = pin!(shout(&console));
    let mut turns = 0;
    while poll(&mut task, Waker::noop()) != Poll::Ready(Ok(())) {
        serve(&platform, &interrupt);
        console.collect().unwrap();
        turns += 1;
    }
    assert_eq!((output(&platform), turns), (b"ABC".to_vec(), 2));
}
