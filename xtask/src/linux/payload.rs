//! What a scenario wants beside its script. All of it lies in /payload, where the script starts; programs have their
//! shared objects with them.

use super::debian::answer;
use super::driver::Driver;
use super::guest::{Guest, Root};
use super::kernels::Kernel;
use super::stocks::Stocks;
use super::tools::{self, Tool};
use super::tree::Tree;
use super::{built, qemu};
use crate::workspace::Workspace;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

const PAYLOAD: &str = "/payload";
/// What a kernel and its init expect of a root that is a disk.
const ROOT_FOLDERS: &[&str] = &["dev", "proc", "sys", "tmp", "run"];
const WORDS: &str = include_str!("scripts/words.sh");

/// A part of the payload.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// `pvkit`, and the guest images in `images`.
    Pvkit,
    /// `pvkit-mutants`: the program with the feature `mutants`, which can lie to its guest.
    Mutants,
    /// Test programs of the crate `pvkit-tests`, by name.
    Tests(&'static [&'static str]),
    /// `qemu-system-x86_64` with its firmware, where it expects it.
    Qemu,
    /// A module of ours, built for the machine's own kernel: the folder of its sources, from the workspace's root.
    Driver(&'static str),
    /// `tools.img`: these programs of this machine, for guests.
    Tools(&'static [Tool]),
    /// Linux guests: `guests/NAME/KERNEL/vmlinuz`, and beside it `initramfs` or `root.img`.
    Guests(&'static [&'static Guest]),
}

/// Gathers parts into a tree.
pub struct Packer<'rig> {
    /// For what cargo builds.
    pub workspace: &'rig Workspace,
    /// For guests' kernels.
    pub stocks: &'rig Stocks<'rig>,
    /// The machine's kernel.
    pub kernel: &'rig Kernel,
    /// For what is made on the way.
    pub folder: &'rig Path,
}

impl Packer<'_> {
    /// Adds the parts, and what every script may use.
    pub fn add(&self, parts: &[Part], tree: &mut Tree) -> Result<(), String> {
        tree.bytes(inside("words.sh"), WORDS);
        parts.iter().try_for_each(|part| self.part(*part, tree))
    }

    /// Adds a file of the developer's, a program with what it needs.
    pub fn extra(file: &Path, tree: &mut Tree) -> Result<(), String> {
        let name = file.file_name().ok_or_else(|| format!("{} is no file", file.display()))?;
        tree.program(Path::new(PAYLOAD).join(name), file)
    }

    fn part(&self, part: Part, tree: &mut Tree) -> Result<(), String> {
        match part {
            Part::Pvkit => {
                tree.program(inside("pvkit"), &built::pvkit(self.workspace)?)?;
                let images = built::guests(self.workspace)?;
                ["tiny", "unikernel"].iter().for_each(|name| {
                    tree.copy(inside(&format!("images/{name}")), images.join(name));
                });
                Ok(())
            }
            Part::Mutants => tree.program(inside("pvkit-mutants"), &built::mutants(self.workspace)?),
            Part::Tests(names) => names
                .iter()
                .try_for_each(|name| tree.program(inside(name), &built::test(self.workspace, name, self.folder)?)),
            Part::Qemu => qemu::add(tree),
            Part::Driver(source) => self.driver(source, self.kernel, tree),
            Part::Tools(programs) => {
                let image = self.folder.join("tools.img");
                tools::image(programs, self.folder, &image)?;
                tree.copy(inside("tools.img"), image);
                Ok(())
            }
            Part::Guests(guests) => guests.iter().try_for_each(|guest| self.guest(guest, tree)),
        }
    }

    fn driver(&self, source: &str, kernel: &Kernel, tree: &mut Tree) -> Result<(), String> {
        let source = self.workspace.root.join(source);
        let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let headers = self.stocks.headers(kernel)?;
        // Its headers' name has their version: other headers, another folder.
        let version = headers.file_name().unwrap_or_default();
        let folder = self.workspace.target.join("xtask/linux-drivers").join(version).join(name);
        let driver = Driver { source: &source, root: &self.workspace.root, headers: &headers, folder: &folder };
        for module in driver.build()? {
            let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
            tree.copy(inside(&name), module);
        }
        Ok(())
    }

    fn program(&self, source: &str, tree: &mut Tree) -> Result<(), String> {
        let source = self.workspace.root.join(source);
        let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let program = self.folder.join(&name);
        // The compiler that modules are built with.
        answer(Command::new("gcc-12").args(["-static", "-O2", "-Wall", "-Werror", "-o"]).arg(&program).arg(&source))?;
        tree.copy(inside(&name), program);
        Ok(())
    }

    fn guest(&self, guest: &Guest, tree: &mut Tree) -> Result<(), String> {
        for stock in self.stocks.these(guest.kernels)? {
            let mut system = guest.system(stock)?;
            system.bytes(inside("words.sh"), WORDS);
            guest.drivers.iter().try_for_each(|source| self.driver(source, stock.kernel, &mut system))?;
            guest.programs.iter().try_for_each(|source| self.program(source, &mut system))?;
            let root = self.folder.join(format!("{}-{}", guest.name, stock.kernel.name));
            let name = match guest.root {
                Root::Archive => {
                    let fault = |error: std::io::Error| format!("{}: {error}", root.display());
                    let file = std::fs::File::create(&root).map_err(fault)?;
                    system.pack(BufWriter::with_capacity(1 << 20, file))?;
                    "initramfs"
                }
                Root::Disk => {
                    system.link("/sbin/init", "../init");
                    tools::disk(&system, ROOT_FOLDERS, &[], self.folder, &root)?;
                    "root.img"
                }
            };
            let folder = format!("guests/{}/{}", guest.name, stock.kernel.name);
            tree.copy(inside(&format!("{folder}/vmlinuz")), stock.image());
            tree.copy(inside(&format!("{folder}/{name}")), root);
        }
        Ok(())
    }
}

fn inside(name: &str) -> PathBuf {
    Path::new(PAYLOAD).join(name)
}
