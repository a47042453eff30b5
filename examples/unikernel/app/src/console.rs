//! The small applications: a line, a panic, a sleep, an echo.

use crate::care::Care;
use crate::session::Session;
use crate::{Ending, Failure, Options};
use pvkit_guest_drivers::platform::Platform;

pub(crate) fn hello<P: Platform>(session: &mut Session<'_, P>) -> Result<(), Failure> {
    session.terminal.line(format_args!("hello from the guest"));
    Ok(session.terminal.flush()?)
}

/// The host must show the message and end with a status that is not zero.
#[expect(clippy::panic, reason = "it is what was asked for")]
pub(crate) fn panic<P: Platform>(session: &mut Session<'_, P>) -> Result<(), Failure> {
    session.terminal.flush()?;
    panic!("the guest was asked to panic")
}

/// Sleeps, unless the host asks for an end.
pub(crate) fn wait<P: Platform>(session: &mut Session<'_, P>, options: &Options) -> Result<Ending, Failure> {
    let mut care = Care::open(session)?;
    session.terminal.line(format_args!("waiting seconds={}", options.seconds));
    session.terminal.flush()?;
    let end = session.platform.now().saturating_add(options.seconds.saturating_mul(1_000_000_000));
    let mut ending = None;
    while ending.is_none() && session.platform.now() < end {
        if !care.arm() {
            session.platform.wait(end);
        }
        ending = care.attend(&mut session.terminal)?;
    }
    session.terminal.line(format_args!("waited"));
    session.terminal.flush()?;
    care.close(session)?;
    Ok(ending)
}

pub(crate) fn echo<P: Platform>(session: &mut Session<'_, P>) -> Result<(), Failure> {
    session.terminal.line(format_args!("echo until q"));
    session.terminal.flush()?;
    let mut typed = [0; 256];
    loop {
        let count = session.terminal.read(&mut typed)?;
        let part = typed.get(..count).unwrap_or(&[]);
        let text = part.split(|byte| *byte == b'q').next().unwrap_or(&[]);
        session.terminal.bytes(text)?;
        if count == 0 || text.len() < part.len() {
            session.terminal.line(format_args!("\necho ends"));
            return Ok(session.terminal.flush()?);
        }
    }
}
