//! Prints a disk's size, and each new one, until the time is over.

use crate::session::Session;
use crate::{Failure, Options};
use pvkit_guest_drivers::Block;
use pvkit_guest_drivers::platform::Platform;

pub(crate) fn run<P: Platform>(session: &mut Session<'_, P>, options: &Options) -> Result<(), Failure> {
    let mut disk: Block<'_, P> = session.disk(options.disk, options.depth)?;
    session.terminal.line(format_args!("capacity {}", disk.geometry().capacity));
    session.terminal.flush()?;
    let end = session.platform.now().saturating_add(options.seconds.saturating_mul(1_000_000_000));
    while session.platform.now() < end {
        session.bus.borrow_mut().poll()?;
        if disk.refresh(&session.bus.borrow())? {
            session.terminal.line(format_args!("capacity {}", disk.geometry().capacity));
            session.terminal.flush()?;
        }
        session.bus.borrow_mut().wait(end)?;
    }
    Ok(())
}
