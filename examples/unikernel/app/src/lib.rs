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
mod cmdline;
mod console;
mod ext4;
mod files;
mod log;
mod record;
mod resize;
mod session;
mod terminal;
mod web;

pub use cmdline::{App, BadWord, Options};

use core::fmt;
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
    let (status, result) = match Options::parse(cmdline) {
        Ok(options) => match run(&mut session, &options) {
            Ok(()) => (0, Ok(())),
            Err(failure) => (EXIT_FAILED, Err(alloc::format!("{failure}"))),
        },
        Err(bad) => (EXIT_USAGE, Err(alloc::format!("{bad}"))),
    };
    if let Err(text) = result {
        session.terminal.line(format_args!("error {text}"));
    }
    match session.terminal.flush() {
        Ok(()) => status,
        Err(_) => EXIT_FAILED,
    }
}

fn run<P: Platform>(session: &mut Session<'_, P>, options: &Options) -> Result<(), Failure> {
    match options.app {
        App::Hello => console::hello(session),
        App::Panic => console::panic(session),
        App::Wait => console::wait(session, options),
        App::Echo => console::echo(session),
        App::Files => files::run(session, options),
        App::Log => log::run(session, options),
        App::Check => log::check(session, options),
        App::Bench => bench::run(session, options),
        App::Resize => resize::run(session, options),
        App::Web => web::run(session, options),
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
