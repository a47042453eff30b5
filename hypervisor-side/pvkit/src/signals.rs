//! Ctrl-C, SIGTERM and SIGHUP: one thread waits for them and asks the work to end; a second signal, or the end of
//! its patience, ends the process. SIGUSR1: another thread tells the work that disks may have another size.

use crate::failure::signal_status;
use crate::terminal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

/// How long work may take to end by itself.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Which signal came, if one did.
#[derive(Clone, Debug, Default)]
pub struct Caught(Arc<AtomicI32>);

impl Caught {
    /// The first signal that came.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            signal => Some(signal),
        }
    }
}

/// Calls `stop` at the first signal, from a thread of its own; the process ends when `patience` is over after that.
///
/// # Errors
/// The signals cannot be taken over.
pub fn watch(patience: Duration, stop: impl FnOnce() + Send + 'static) -> io::Result<Caught> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let caught = Caught::default();
    let noted = caught.clone();
    thread::Builder::new().name("signals".into()).spawn(move || {
        let mut arrivals = signals.forever();
        let Some(first) = arrivals.next() else { return };
        // ORDER: pairs with Caught::signal; whoever sees the work stopped also sees why.
        noted.0.store(first, Ordering::Release);
        let spawned = thread::Builder::new().name("patience".into()).spawn(move || {
            thread::sleep(patience);
            leave(first);
        });
        stop();
        if spawned.is_err() || arrivals.next().is_some() {
            leave(first);
        }
    })?;
    Ok(caught)
}

/// Calls `refresh` at every SIGUSR1, from a thread of its own.
///
/// # Errors
/// The signal cannot be taken over.
pub fn on_refresh(refresh: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGUSR1])?;
    thread::Builder::new().name("refresh".into()).spawn(move || signals.forever().for_each(|_| refresh()))?;
    Ok(())
}

/// Ends the process now; the kernel closes files, locks and the virtual machine.
fn leave(signal: i32) -> ! {
    terminal::restore();
    std::process::exit(i32::from(signal_status(signal)))
}
