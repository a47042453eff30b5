//! The demo guest: one application, run by the KVM machine's image and by the in-process machine.
//!
//! *Purpose.* Shows the drivers at work and gives the tests something to look at. What it does is chosen by the word
//! `app=` of the command line; see [`App`]. The first lines it prints say what was negotiated.
//!
//! *Owners.* No statics: two guests in one process do not meet.
//!
//! *Not here.* Entry, heap and panic handler: the image's.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bench;
mod care;
mod cmdline;
mod console;
mod ext4;
mod files;
mod flow;
mod lasting;
mod log;
mod record;
mod resize;
mod session;
mod stubborn;
mod tasks;
mod terminal;
mod web;

pub use cmdline::{App, BadWord, Options};

use core::fmt;
use pvkit_abi::hypercall::{Call, ShutdownReason};
use pvkit_guest_drivers::error::{BusError, ConnectError, RequestError};
use pvkit_guest_drivers::platform::Platform;
use session::Session;

/// Exit status of a command line that is not understood.
pub const EXIT_USAGE: i32 = 2;
/// Exit status of an application that failed.
pub const EXIT_FAILED: i32 = 1;

/// Runs what `cmdline` asks for; the result is the guest's exit status.
pub fn main<P: Platform>(platform: &P, cmdline: &str) -> i32 {
    let mut session = match Session::open(platform) {
        Ok(session) => session,
        Err(error) => {
            terminal::early(platform, &alloc::format!("guest: no console: {error}\n"));
            return EXIT_FAILED;
        }
    };
    let mut restart = false;
    let (status, result) = match Options::parse(cmdline) {
        Ok(options) => match run(&mut session, &options) {
            Ok(ending) => {
                restart = ending == Some(ShutdownReason::REBOOT);
                (0, Ok(()))
            }
            Err(failure) => (EXIT_FAILED, Err(alloc::format!("{failure}"))),
        },
        Err(bad) => (EXIT_USAGE, Err(alloc::format!("{bad}"))),
    };
    if let Err(text) = result {
        session.terminal.line(format_args!("error {text}"));
    }
    let flushed = session.terminal.flush();
    if restart {
        // It does not return; a host that lets it is as good as powered off.
        let _ = platform.hypercall(Call::SCHED_SHUTDOWN, [ShutdownReason::REBOOT.0.into(), 0, 0, 0, 0]);
    }
    match flushed {
        Ok(()) => status,
        Err(_) => EXIT_FAILED,
    }
}

/// What the application came to: how to end, if the host asked for it.
type Ending = Option<ShutdownReason>;

fn run<P: Platform>(session: &mut Session<'_, P>, options: &Options) -> Result<Ending, Failure> {
    match options.app {
        App::Log => return log::run(session, options),
        App::Wait => return console::wait(session, options),
        App::Web => return web::run(session, options),
        App::Flow => return flow::run(session, options),
        _ => {}
    }
    run_to_its_end(session, options).map(|()| None)
}

fn run_to_its_end<P: Platform>(session: &mut Session<'_, P>, options: &Options) -> Result<(), Failure> {
    match options.app {
        App::Hello => console::hello(session),
        App::Panic => console::panic(session),
        App::Echo => console::echo(session),
        App::Files => files::run(session, options),
        App::Check => log::check(session, options),
        App::Bench => bench::run(session, options),
        App::Resize => resize::run(session, options),
        App::Async => tasks::run(session, options),
        App::Log | App::Wait | App::Web | App::Flow => Ok(()),
    }
}

/// Why an application failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Connect(ConnectError),
    Bus(BusError),
    Request(RequestError),
    FileSystem(ext4_view::Ext4Error),
    NoDisk(u16),
    Wrong(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "{error}"),
            Self::Bus(error) => write!(f, "{error}"),
            Self::Request(error) => write!(f, "{error}"),
            Self::FileSystem(error) => write!(f, "file system: {error}"),
            Self::NoDisk(disk) => write!(f, "the host offers no disk {disk}"),
            Self::Wrong(what) => f.write_str(what),
        }
    }
}

macro_rules! failure_from {
    ($($variant:ident($error:ty)),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}
failure_from!(Connect(ConnectError), Bus(BusError), Request(RequestError), FileSystem(ext4_view::Ext4Error));
