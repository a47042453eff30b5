//! The first virtual machine (L1): a stock kernel under QEMU's emulator, with AMD's virtualization for guests of its own.
//!
//! Invariants: it ends with this process, at the latest at its deadline. What came of the script is the status in the
//! archive on its results disk; without that it did not end by itself, and that is a failure. Its console goes to a file,
//! QEMU's own remarks (18 lines about features that TCG lacks) to another.

use super::cpio;
use super::stock::Stock;
use super::tree::Tree;
use crate::child::{self, End, Interruption};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Room for results; the file is sparse.
const RESULTS_SIZE: u64 = 64 << 20;
/// For booting and ending, on top of the script's own limit. The emulator may share its processors with others.
const AROUND: Duration = Duration::from_secs(60);
/// One processor. With two (QEMU 7.2, a thread each) a machine whose guests are kicked out of loops hangs within the minute: a
/// guest was seen walking page tables from its host's CR3, or no interrupt comes any more. With two on one thread QEMU as a
/// guest's host does not come past the guest's first instructions. With one, the same tests stood 64 rounds.
const PROCESSORS: u32 = 1;
/// Where the results disk shows: NVMe is built into the cloud kernels.
const RESULTS: &str = "/dev/nvme0n1";
/// The machine is trusted as a whole: mitigations would only slow the emulation. A periodic tick comes again if the emulator
/// has lost one while it entered or left a guest.
const KERNEL_WORDS: &str = "console=ttyS0 quiet panic=-1 mitigations=off nohz=off highres=off";

/// An emulated machine.
pub struct Emulated<'rig> {
    /// Its kernel.
    pub stock: &'rig Stock,
    /// Its first root.
    pub tree: Tree,
    /// MiB.
    pub memory: u32,
    /// For the script.
    pub limit: Duration,
    /// Where its files are made; the logs stay in it.
    pub folder: &'rig Path,
}

/// What came of it.
pub struct Outcome {
    /// The script's exit status.
    pub status: u32,
    /// What the script left in /results.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Emulated<'_> {
    /// Its console's log.
    pub fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// Boots it, waits for its end, brings the results home.
    pub fn run(&self, interruption: &Interruption, news: impl FnMut(Duration)) -> Result<Outcome, String> {
        let fault = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        let (initramfs, results) = (self.folder.join("initramfs"), self.folder.join("results"));
        let file = File::create(&initramfs).map_err(|error| fault(&initramfs, error))?;
        self.tree.pack(BufWriter::with_capacity(1 << 20, file))?;
        let made = File::create(&results).and_then(|file| file.set_len(RESULTS_SIZE));
        made.map_err(|error| fault(&results, error))?;

        let mut command = self.command(&initramfs, &results);
        let deadline = Instant::now() + self.limit + AROUND;
        let end = child::run(&mut command, &self.folder.join("qemu.log"), deadline, interruption, news);
        let archive = read(&results).map_err(|error| fault(&results, error))?;
        for file in [&initramfs, &results] {
            // Large and no longer wanted; one that stays costs space only.
            let _ = fs::remove_file(file);
        }
        match end {
            Ok(End::Exited(status)) if status.success() => {}
            Ok(End::Exited(status)) => return Err(format!("QEMU failed ({status})")),
            Ok(End::TimedOut) => return Err("the machine did not end in time".into()),
            Ok(End::Interrupted) => return Err("interrupted".into()),
            Err(error) => return Err(format!("QEMU cannot be started: {error}")),
        }
        parse(&archive)
    }

    fn command(&self, initramfs: &Path, results: &Path) -> Command {
        let mut command = Command::new("setpriv");
        let limit = self.limit.as_secs();
        let words = format!(
            "--pdeathsig KILL -- qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
             -accel tcg -cpu EPYC,+svm,+npt -smp {PROCESSORS} -m {} \
             -device nvme,drive=results,serial=results -device pci-testdev",
            self.memory
        );
        command.args(words.split_whitespace());
        command.arg("-serial").arg(format!("file:{}", comma(&self.console())));
        command.arg("-drive").arg(format!("if=none,id=results,format=raw,file={}", comma(results)));
        command.arg("-kernel").arg(self.stock.image()).arg("-initrd").arg(initramfs);
        command.arg("-append").arg(format!("{KERNEL_WORDS} pvkit_limit={limit} pvkit_results={RESULTS}"));
        command
    }
}

/// QEMU's option lists have commas doubled in values.
fn comma(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

fn read(results: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(results)?.take(RESULTS_SIZE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(archive: &[u8]) -> Result<Outcome, String> {
    let mut files = cpio::files(archive).map_err(|why| format!("the machine ended without results: {why}"))?;
    let status = files.remove("status").ok_or("the machine ended without a status")?;
    let status = String::from_utf8_lossy(&status).trim().parse().map_err(|_| "the status is not a number")?;
    Ok(Outcome { status, files })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_taken_out_of_the_results() {
        let mut tree = Tree::default();
        tree.bytes("/status", "7\n");
        tree.bytes("/log", "said");
        let mut archive = Vec::new();
        tree.pack(&mut archive).expect("packed");
        archive.resize(1 << 16, 0);
        let outcome = parse(&archive).expect("legal");
        assert_eq!((outcome.status, outcome.files["log"].as_slice()), (7, b"said".as_slice()));
    }

    #[test]
    fn disk_that_was_never_written_is_no_success() {
        assert!(parse(&[0; 4096]).is_err());
    }
}
