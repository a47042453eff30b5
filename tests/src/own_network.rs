//! Tests that need network interfaces run in a network namespace of their own: the same test again, in another process.

use std::process::Command;

/// Set in the process that has its own network.
const MARK: &str = "PVKIT_TEST_OWN_NETWORK";

/// Runs `body` if this process has a network of its own, else this very test in one that has. `false` if that cannot be had
/// here; the reason is printed for the lane.
///
/// # Panics
/// If the test failed there.
pub fn in_own_network(test: &str, body: impl FnOnce()) -> bool {
    if std::env::var_os(MARK).is_some() {
        body();
        return true;
    }
    if let Err(why) = possible() {
        println!("skipped: tap: {why}");
        return false;
    }
    let program = std::env::current_exe().unwrap_or_else(|error| panic!("{error}"));
    let mut command = Command::new("unshare");
    command.arg("--net").arg(program).args([test, "--exact", "--nocapture", "--test-threads=1"]).env(MARK, "1");
    let output = command.output().unwrap_or_else(|error| panic!("unshare: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "in a network of its own:\n{text}");
    text.lines().filter(|line| line.starts_with("figure:")).for_each(|line| println!("{line}"));
    true
}

fn possible() -> Result<(), String> {
    let tries = [("unshare", &["--net", "true"][..], "needs root"), ("ip", &["-V"], "package iproute2 is missing")];
    for (program, arguments, why) in tries {
        match Command::new(program).args(arguments).output() {
            Ok(output) if output.status.success() => {}
            Ok(_) => return Err(format!("{program}: {why}")),
            Err(error) => return Err(format!("{program}: {error} ({why})")),
        }
    }
    std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(|error| format!("/dev/net/tun: {error}"))?;
    Ok(())
}

/// Runs `ip` with these words.
///
/// # Panics
/// If it says no.
pub fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap_or_else(|error| panic!("ip: {error}"));
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}
