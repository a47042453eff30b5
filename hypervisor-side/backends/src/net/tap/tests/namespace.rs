//! A network namespace for one test: entered by its thread, gone when the last thread and descriptor in it are.

use nix::sched::{CloneFlags, unshare};
use std::process::{Command, Stdio};
use std::time::Duration;

pub struct Namespace;

impl Namespace {
    /// Enters a fresh one; `None`, told on the terminal, where that cannot be.
    pub fn enter() -> Option<Self> {
        let skip = |why: &str| {
            println!("skipped: tap: {why}");
            None
        };
        if !nix::unistd::geteuid().is_root() {
            return skip("needs root, for a network namespace of its own");
        }
        if let Err(error) = std::fs::metadata("/dev/net/tun") {
            return skip(&format!("/dev/net/tun: {error}"));
        }
        if Command::new("ip").arg("-V").stdout(Stdio::null()).status().is_err() {
            return skip("there is no `ip`");
        }
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            return skip(&format!("no network namespace: {error}"));
        }
        let namespace = Self;
        namespace.ip("link set lo up");
        Some(namespace)
    }

    /// Runs `ip` in the namespace.
    #[track_caller]
    pub fn ip(&self, arguments: &str) {
        let done = Command::new("ip").args(arguments.split(' ')).status().unwrap();
        assert!(done.success(), "ip {arguments}");
    }

    pub fn has(&self, interface: &str) -> bool {
        let list = Command::new("ip").args(["-o", "link"]).output().unwrap().stdout;
        String::from_utf8(list).unwrap().contains(&format!(" {interface}:"))
    }

    /// Waits for something that must come; far longer than it takes.
    #[track_caller]
    pub fn until(&self, mut happened: impl FnMut() -> bool) {
        for _ in 0..2000 {
            if happened() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("what was waited for did not happen");
    }
}
