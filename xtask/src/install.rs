//! The lines that get what is missing: one for apt, one for each tool. Printed, or with `--install` run, once.

use crate::need::Remedy;
use std::process::Command;

/// The lines for these remedies, without repeats; the Debian packages are joined into one.
pub fn lines(remedies: impl IntoIterator<Item = Remedy>) -> Vec<String> {
    let mut packages = Vec::new();
    let mut lines = Vec::new();
    for remedy in remedies {
        match remedy {
            Remedy::Apt(names) => {
                packages.extend(names.split(' ').filter(|name| !packages.contains(name)).collect::<Vec<_>>())
            }
            Remedy::Line(line) if !lines.contains(&line) => lines.push(line),
            Remedy::Line(_) | Remedy::ByHand => {}
        }
    }
    if !packages.is_empty() {
        let names = packages.join(" ");
        lines.insert(0, format!("apt-get update && apt-get install -y --no-install-recommends {names}"));
    }
    lines
}

/// Whether the line is for the machine's owner only.
pub fn needs_root(line: &str) -> bool {
    line.starts_with("apt-get")
}

/// The line as a command of the shell; apt asks nothing.
pub fn command(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_share_one_line_and_repeats_vanish() {
        let target = Remedy::Line("rustup target add t".into());
        let remedies =
            [Remedy::Apt("gcc libc6-dev"), target.clone(), Remedy::Apt("valgrind gcc"), target, Remedy::ByHand];
        let lines = lines(remedies);
        assert!(needs_root(&lines[0]) && !needs_root(&lines[1]));
        assert_eq!(
            lines,
            [
                "apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev valgrind",
                "rustup target add t"
            ]
        );
    }

    #[test]
    fn what_only_the_owner_can_mend_gives_no_line() {
        assert!(lines([Remedy::ByHand]).is_empty());
    }
}
