//! A kernel that looks after itself, built from Debian's source: KASAN, lockdep, kmemleak. For modules of ours, which then
//! cannot hide what a stock kernel would overlook.
//!
//! Built once for each version of the source and of `checked.config`, with ccache where that is; takes a quarter of an hour
//! and more on two processors. The folder of the build stays: modules are built against it.

use super::debian::answer;
use super::kernels::CHECKED;
use super::source;
use super::stock::Stock;
use crate::cache;
use crate::child::{self, End, Interruption};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const CONFIG: &str = include_str!("checked.config");
/// On two slow processors that others use as well.
const LIMIT: Duration = Duration::from_secs(5400);
/// Stands in the folder of a build that is whole; holds the release.
const DONE: &str = "pvkit-release";

/// The kernel, and the folder that modules are built against.
pub fn ready(interruption: &Interruption) -> Result<(Stock, PathBuf), String> {
    let tree = source::tree(interruption)?;
    let mut hasher = DefaultHasher::new();
    (tree.as_path(), CONFIG).hash(&mut hasher);
    let root = cache::folder("linux")?.join(format!("checked-{:016x}", hasher.finish()));
    let build = root.join("build");
    if !build.join(DONE).is_file() {
        make(&tree, &build, &root, interruption)?;
    }
    let release = read(&build.join(DONE))?;
    Ok((Stock::built(CHECKED, release.trim().into(), root), build))
}

/// From the source to a folder that looks as an unpacked package does.
fn make(tree: &Path, build: &Path, root: &Path, interruption: &Interruption) -> Result<(), String> {
    println!("  building a kernel with KASAN and lockdep; this takes long, and once");
    let fault = |error: std::io::Error| format!("{}: {error}", root.display());
    fs::create_dir_all(build).map_err(fault)?;
    let fragment = root.join("checked.config");
    fs::write(&fragment, CONFIG).map_err(fault)?;
    let run = |arguments: &[&str]| {
        let mut command = Command::new("make");
        command.args(["-s", "-C"]).arg(tree).arg(format!("O={}", build.display())).args(compiler()).args(arguments);
        carry_out(&mut command, &root.join("build.log"), interruption)
    };
    run(&["tinyconfig"])?;
    let mut merge = Command::new(tree.join("scripts/kconfig/merge_config.sh"));
    merge.arg("-m").arg("-O").arg(build).arg(build.join(".config")).arg(&fragment).current_dir(tree);
    answer(&mut merge)?;
    run(&["olddefconfig"])?;
    all_set(&read(&build.join(".config"))?)?;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    run(&[&format!("-j{processors}"), "bzImage", "modules"])?;
    run(&[&format!("INSTALL_MOD_PATH={}", root.display()), "modules_install"])?;
    let release = read(&build.join("include/config/kernel.release"))?;
    fs::create_dir_all(root.join("boot")).map_err(fault)?;
    fs::copy(build.join("arch/x86/boot/bzImage"), root.join(format!("boot/vmlinuz-{}", release.trim())))
        .map_err(fault)?;
    // Last: the build is whole.
    fs::write(build.join(DONE), release).map_err(fault)
}

/// ccache in front of the compiler, if it is there.
fn compiler() -> Option<&'static str> {
    let has = Command::new("ccache").arg("--version").output().is_ok_and(|output| output.status.success());
    has.then_some("CC=ccache gcc")
}

fn carry_out(command: &mut Command, log: &Path, interruption: &Interruption) -> Result<(), String> {
    let news = |elapsed: Duration| println!("  ... {} s", elapsed.as_secs());
    match child::run(command, log, Instant::now() + LIMIT, interruption, news) {
        Ok(End::Exited(status)) if status.success() => Ok(()),
        end => {
            let said = fs::read_to_string(log).unwrap_or_default();
            let last: Vec<_> = said.lines().rev().take(20).collect();
            Err(format!(
                "the kernel does not build ({end:?}):\n{}",
                last.into_iter().rev().collect::<Vec<_>>().join("\n")
            ))
        }
    }
}

/// What the fragment asks for and the configuration does not have was dropped for want of something else.
fn all_set(config: &str) -> Result<(), String> {
    let dropped: Vec<_> = CONFIG
        .lines()
        .filter(|line| line.ends_with("=y"))
        .filter(|wanted| !config.lines().any(|line| line == *wanted))
        .collect();
    if dropped.is_empty() { Ok(()) } else { Err(format!("this source does not take {}", dropped.join(", "))) }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_that_was_dropped_is_named() {
        assert_eq!(all_set(CONFIG), Ok(()));
        let without = CONFIG.replace("CONFIG_KASAN=y\n", "# CONFIG_KASAN is not set\n");
        assert!(all_set(&without).expect_err("dropped").contains("CONFIG_KASAN=y"));
    }
}
