//! The terminal while a guest owns it, and after: on a pseudo-terminal that is the controlling one of `pvkit run`.

mod guest;

use guest::{PVKIT, send, tiny, unikernel, wait_for_end};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, tcgetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

/// A guest on a terminal of its own.
struct Seat {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    shown: String,
    line: File,
    found: Termios,
    child: Child,
}

impl Seat {
    fn take(tiny: &Path, cmdline: &str) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let line = File::options().read(true).write(true).open(name).unwrap();
        let found = tcgetattr(&line).unwrap();
        // `setsid --ctty` makes the terminal the controlling one: Ctrl-C on it becomes a signal.
        let child = Command::new("setsid")
            .args(["--ctty", PVKIT, "run", "--kernel"])
            .arg(tiny)
            .args(["--cmdline", cmdline])
            .stdin(line.try_clone().unwrap())
            .stdout(line.try_clone().unwrap())
            .stderr(line.try_clone().unwrap())
            .spawn()
            .unwrap();
        let keyboard = File::from(master);
        let screen = watch(keyboard.try_clone().unwrap());
        Self { keyboard, screen, shown: String::new(), line, found, child }
    }

    fn wait_for(&mut self, wanted: &str) {
        let deadline = Instant::now() + guest::PATIENCE;
        while !self.shown.contains(wanted) {
            let left = deadline.saturating_duration_since(Instant::now());
            let bytes = self.screen.recv_timeout(left).unwrap_or_else(|_| panic!("no `{wanted}` in {}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    fn modes(&self) -> LocalModes {
        tcgetattr(&self.line).unwrap().local_modes
    }

    /// Waits for the end and checks that the terminal is as it was found.
    fn leave(mut self) -> Option<i32> {
        let code = wait_for_end(&mut self.child).code();
        let now = tcgetattr(&self.line).unwrap();
        assert_eq!(now.local_modes, self.found.local_modes);
        assert_eq!(now.input_modes, self.found.input_modes);
        assert_eq!(now.output_modes, self.found.output_modes);
        code
    }
}

fn watch(mut screen: File) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 1024];
        while let Ok(length @ 1..) = screen.read(&mut bytes) {
            if sender.send(bytes[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

#[test]
fn keys_and_signals_leave_and_restore_the_terminal() {
    let Some(tiny) = tiny() else { return };
    for (typed, code) in [(&b"\x01x"[..], Some(0)), (b"\x03", Some(130))] {
        let mut seat = Seat::take(&tiny, "spin");
        seat.wait_for("hello");
        assert!(!seat.modes().intersects(LocalModes::ICANON | LocalModes::ECHO), "the guest gets single keys");
        seat.keyboard.write_all(typed).unwrap();
        assert_eq!(seat.leave(), code);
    }
    let mut seat = Seat::take(&tiny, "spin");
    seat.wait_for("hello");
    send(&seat.child, Signal::TERM);
    assert_eq!(seat.leave(), Some(143));
}

#[test]
fn a_crash_restores_the_terminal() {
    let Some(tiny) = tiny() else { return };
    let mut seat = Seat::take(&tiny, "ud2");
    seat.wait_for("rip=");
    assert_eq!(seat.leave(), Some(101));
}

#[test]
fn ctrl_a_h_shows_the_keys() {
    let Some(tiny) = tiny() else { return };
    let mut seat = Seat::take(&tiny, "spin");
    seat.wait_for("hello");
    seat.keyboard.write_all(b"\x01h").unwrap();
    seat.wait_for("Ctrl-a x");
    seat.keyboard.write_all(b"\x01x").unwrap();
    assert_eq!(seat.leave(), Some(0));
}

#[test]
fn typed_keys_reach_the_guest() {
    let Some(unikernel) = unikernel() else { return };
    let mut seat = Seat::take(&unikernel, "app=echo");
    seat.wait_for("echo until q");
    seat.keyboard.write_all(b"some\x01\x01text\x01c").unwrap();
    seat.wait_for("some\x01text\x03");
    seat.keyboard.write_all(b"q").unwrap();
    assert_eq!(seat.leave(), Some(0));
}
