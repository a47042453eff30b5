//! Log mode is worth what the kernel logs.

use crate::Case;
use crate::verdict::{Stage, User, play, skip};
use pvkit_sandbox::Mode;
use rustix::fs::{Mode as Permissions, OFlags, open};
use std::time::Duration;

/// Looks, each after another attempt: the kernel drops all but a few lines in five seconds.
const LOOKS: u32 = 15;

/// The kernel's log names an unlisted call that was done, by number and program.
pub fn judge(stage: &Stage, case: &Case) -> Result<(), String> {
    let program = format!("exe=\"{}\"", stage.program().display());
    let done = format!("syscall={} compat=0", libc::SYS_socket);
    let mut killed = false;
    for _ in 0..LOOKS {
        for mode in [Mode::Strict, Mode::Log] {
            play(stage, case, User::Ours, mode).map_err(|error| error.to_string())?;
        }
        let Some(log) = read_log() else { return skip("kernel log", "this user may not read it") };
        let ours = || log.lines().filter(|line| line.contains(&program) && line.contains("type=1326"));
        if ours().any(|line| line.contains(&done) && line.contains("code=0x7ffc0000")) {
            return Ok(());
        }
        killed |= ours().any(|line| line.contains("code=0x80000000"));
        std::thread::sleep(Duration::from_secs(1));
    }
    if killed {
        Err("killed calls are logged, done ones are not".into())
    } else {
        skip("kernel log", "filters log elsewhere")
    }
}

fn read_log() -> Option<String> {
    let log = open("/dev/kmsg", OFlags::RDONLY | OFlags::NONBLOCK, Permissions::empty()).ok()?;
    let (mut text, mut record) = (String::new(), [0; 8192]);
    loop {
        match rustix::io::read(&log, &mut record) {
            Ok(length) => text.push_str(&String::from_utf8_lossy(&record[..length])),
            // Overwritten while we read; the next one is there.
            Err(rustix::io::Errno::PIPE) => {}
            Err(rustix::io::Errno::AGAIN) => return Some(text),
            Err(_) => return None,
        }
    }
}
