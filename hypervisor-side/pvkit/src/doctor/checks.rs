//! The things that are looked at.

use super::Finding;
use crate::demo::guest_targets;
use crate::tools;
use rustix::process::{Resource, getrlimit};
use std::fs::File;
use std::io::ErrorKind;

/// Open files that a user network, a few disks and their queues may need (`UserLimits`: 512 connections, 256
/// conversations).
const FILES: u64 = 1024;
/// Locked memory below which io_uring, BPF and the like of older kernels are known to fail; pvkit locks none.
const LOCKED: u64 = 64 * 1024;

/// Everything, in the order in which it matters.
pub fn all() -> Vec<Finding> {
    let mut findings = vec![kvm()];
    findings.extend(capabilities());
    findings.extend([processors(), files(), locked_memory(), tun(), disk_maker()]);
    findings.extend(targets());
    findings
}

/// The problem's text holds its remedy.
fn kvm() -> Finding {
    match pvkit_machine::probe_kvm() {
        Ok(()) => Finding::ok("kvm", "/dev/kvm makes virtual machines"),
        Err(problem) => Finding::missing(
            "kvm",
            problem.to_string(),
            "put that right; until then --machine in-process runs the demo without KVM",
        ),
    }
}

fn capabilities() -> Vec<Finding> {
    let of = |(name, is_there)| match is_there {
        true => Finding::ok("capability", name),
        false => Finding::missing("capability", format!("this KVM lacks {name}"), "update the host's kernel"),
    };
    // Without KVM the line above says so.
    pvkit_machine::kvm_capabilities().unwrap_or_default().into_iter().map(of).collect()
}

fn processors() -> Finding {
    match std::thread::available_parallelism() {
        Ok(number) if number.get() > 1 => Finding::ok("processors", format!("{number} for this process")),
        _ => Finding::warn(
            "processors",
            "one for this process",
            "give it a second: a guest and its disks then run at the same time",
        ),
    }
}

fn files() -> Finding {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < FILES => Finding::warn(
            "open files",
            format!("at most {limit}"),
            format!("ulimit -n {FILES}: a user network with many connections needs as many"),
        ),
        limit => Finding::ok("open files", limit.map_or("no limit".into(), |limit| format!("at most {limit}"))),
    }
}

fn locked_memory() -> Finding {
    match getrlimit(Resource::Memlock).current {
        Some(limit) if limit < LOCKED => Finding::warn(
            "locked memory",
            format!("at most {limit} bytes"),
            format!("ulimit -l {}, if KVM refuses memory; pvkit itself locks none", LOCKED / 1024),
        ),
        limit => {
            Finding::ok("locked memory", limit.map_or("no limit".into(), |limit| format!("at most {limit} bytes")))
        }
    }
}

/// Opening the device makes no interface.
fn tun() -> Finding {
    let other = "or use --net user, which needs no rights";
    match File::options().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => Finding::ok("tap", "/dev/net/tun may be opened"),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Finding::warn(
            "tap",
            "/dev/net/tun may not be opened",
            format!("join the group that owns it, pass an open TAP with --net fd=N, {other}"),
        ),
        Err(error) => Finding::warn("tap", format!("/dev/net/tun: {error}"), format!("modprobe tun, {other}")),
    }
}

fn disk_maker() -> Finding {
    match tools::find("mke2fs") {
        Some(path) => Finding::ok("mke2fs", path.display().to_string()),
        None => {
            Finding::warn("mke2fs", "not installed", "install e2fsprogs; until then the demo takes its ready-made disk")
        }
    }
}

/// What the demo can build its guest for.
fn targets() -> Vec<Finding> {
    let of = |(target, is_there, remedy): (&'static str, bool, String)| match is_there {
        true => Finding::ok("guest target", target),
        false => Finding::warn("guest target", format!("{target} is not installed"), remedy),
    };
    guest_targets().into_iter().map(of).collect()
}
