//! The shared objects that a program of this machine needs, so that it can run where there are none.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Every object that the loader would map for `program`, and the loader; nothing for a static program.
pub fn of(program: &Path) -> Result<Vec<PathBuf>, String> {
    let shown = program.display();
    let output = Command::new("ldd").arg(program).env("LC_ALL", "C").output();
    let output = output.map_err(|error| format!("ldd cannot be started: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        return Err(format!("{shown} does not run on this machine either: {}", line.trim()));
    }
    Ok(parse(&text))
}

fn parse(ldd: &str) -> Vec<PathBuf> {
    let place = |line: &str| {
        let found = line.split_once(" => ").map_or(line, |(_, found)| found);
        let path = found.trim().split(' ').next().unwrap_or_default();
        path.starts_with('/').then(|| path.into())
    };
    ldd.lines().filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_and_the_loader_are_found_and_the_kernels_own_is_left_out() {
        let ldd = "\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                   \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            parse(ldd),
            [Path::new("/lib/x86_64-linux-gnu/libc.so.6"), Path::new("/lib64/ld-linux-x86-64.so.2")]
        );
    }

    #[test]
    fn static_program_needs_nothing() {
        assert!(parse("\tnot a dynamic executable\n").is_empty());
    }
}
