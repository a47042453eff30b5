//! The same scripts without a machine around them, where the developer's own KVM runs stock kernels: minutes become seconds.
//!
//! Not every KVM does (one in software may not come past a stock kernel's start), so it is tried once, and the answer kept
//! until the machine is started again.

use super::emulated::Outcome;
use super::stock::Stock;
use super::system;
use super::tree::Tree;
use crate::child::{self, End, Interruption};
use std::collections::BTreeMap;
use std::fs;
use std::io::BufWriter;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A stock kernel comes to its first process in two seconds on hardware.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether `stock` boots on this machine's KVM.
pub fn boots(stock: &Stock, folder: &Path, interruption: &Interruption) -> Result<bool, String> {
    if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(false);
    }
    let since = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let memory = folder.join("native");
    let question = format!("{} {}", stock.release, since.trim());
    if let Some((asked, answer)) = fs::read_to_string(&memory).unwrap_or_default().split_once('\n')
        && asked == question
    {
        return Ok(answer == "boots");
    }
    println!("trying a stock kernel on this machine's own KVM, for {} s at most", PATIENCE.as_secs());
    let boots = try_boot(stock, folder, interruption)?;
    println!("  {}", if boots { "it boots" } else { "it does not boot; such scenarios run under emulation" });
    if !interruption.came() {
        let answer = if boots { "boots" } else { "does not" };
        fs::write(&memory, format!("{question}\n{answer}"))
            .map_err(|error| format!("{}: {error}", memory.display()))?;
    }
    Ok(boots)
}

fn try_boot(stock: &Stock, folder: &Path, interruption: &Interruption) -> Result<bool, String> {
    let (initramfs, log) = (folder.join("native.initramfs"), folder.join("native.log"));
    // A log of an earlier try must not answer for this one.
    let _ = fs::remove_file(&log);
    let file = fs::File::create(&initramfs).map_err(|error| format!("{}: {error}", initramfs.display()))?;
    system::small(stock, &[], "#!/bin/sh\nexit 0\n")?.pack(BufWriter::new(file))?;
    let mut command = Command::new("setpriv");
    command
        .args("--pdeathsig KILL -- qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot".split(' '));
    command.args("-accel kvm -cpu host -m 256 -serial stdio".split(' '));
    command.arg("-kernel").arg(stock.image()).arg("-initrd").arg(&initramfs);
    command.args(["-append", "console=ttyS0 quiet panic=-1"]);
    let end = child::run(&mut command, &log, Instant::now() + PATIENCE, interruption, |_| {});
    end.map_err(|error| format!("QEMU cannot be started: {error}"))?;
    Ok(fs::read_to_string(&log).unwrap_or_default().contains("pvkit-init: status 0"))
}

/// Runs what lies in `tree` at `/payload` and `/scenario`, with files of its own below `folder`.
pub fn run(
    tree: &Tree,
    limit: Duration,
    folder: &Path,
    interruption: &Interruption,
    news: impl FnMut(Duration),
) -> Result<Outcome, String> {
    let root = folder.join("root");
    tree.lay_out(&["/payload", "/scenario"], &root)?;
    let [results, scratch] = ["results", "scratch"].map(|name| root.join(name));
    for folder in [&results, &scratch] {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(root.join("scenario")).current_dir(root.join("payload"));
    command.env("RESULTS", &results).env("SCRATCH", &scratch);
    let end = child::run(&mut command, &folder.join("console.log"), Instant::now() + limit, interruption, news);
    let outcome = match end {
        Ok(End::Exited(status)) => {
            let status = status.code().and_then(|code| u32::try_from(code).ok()).unwrap_or(255);
            read(&results).map(|files| Outcome { status, files })
        }
        Ok(End::TimedOut) => Err("the script did not end in time".into()),
        Ok(End::Interrupted) => Err("interrupted".into()),
        Err(error) => Err(format!("the script cannot be started: {error}")),
    };
    // Copies of what lies elsewhere, and what the script left.
    let _ = fs::remove_dir_all(&root);
    outcome
}

fn read(results: &Path) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let read = || -> std::io::Result<_> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(results)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
            }
        }
        Ok(files)
    };
    read().map_err(|error| format!("{}: {error}", results.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_finds_its_payload_and_its_results_and_status_come_home() {
        let folder = std::env::temp_dir().join(format!("xtask-native-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("folder");
        let mut tree = Tree::default();
        tree.script(
            "/scenario",
            "#!/bin/sh\ncat words >\"$SCRATCH/x\" && cp \"$SCRATCH/x\" \"$RESULTS/log\"\nexit 3\n",
        );
        tree.bytes("/payload/words", "said");
        tree.bytes("/modules/order", "not for this machine");
        let outcome = run(&tree, Duration::from_secs(60), &folder, &Interruption::none(), |_| {}).expect("it ran");
        assert_eq!((outcome.status, outcome.files["log"].as_slice()), (3, b"said".as_slice()));
        assert!(!folder.join("root").exists());
        fs::remove_dir_all(folder).expect("removed");
    }
}
