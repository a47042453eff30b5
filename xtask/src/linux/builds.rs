//! Kernels that are built here, from Debian's source: one that looks after itself, for modules of ours, which then cannot
//! hide what a stock kernel would overlook; and a small one, with pvkit's patches and without.
//!
//! Each is built once for each version of the source, its configuration and its patches, with ccache where that is: minutes
//! for the small ones, a quarter of an hour and more for the other, on two processors. The folder of a build stays: modules
//! are built against it. Drivers that are built in are brought up to date each time, and what depends on them.

use super::debian::answer;
use super::kernels::{CHECKED, Kernel, PATCHED, SMALL};
use super::patches::Series;
use super::source;
use super::stock::Stock;
use crate::cache;
use crate::child::{self, End, Interruption};
use crate::workspace::Workspace;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// On two slow processors that others use as well.
const LIMIT: Duration = Duration::from_secs(5400);
/// Stands in the folder of a build that is whole; holds the release.
const DONE: &str = "pvkit-release";
/// Says what the folder was made by.
const RECIPE: &str = "recipe";
/// What the small kernel has of its configuration only with the patches.
const PATCHED_OPTIONS: &str = "CONFIG_PVKIT";

/// How a kernel is built.
struct Recipe {
    kernel: &'static Kernel,
    /// What is set beside tinyconfig; later words win.
    fragments: &'static [&'static str],
    patched: bool,
    modules: bool,
}

const SMALL_CONFIG: &str = include_str!("../../../guest-kernel-patches/linux-6.1/pvkit.config");

const RECIPES: &[Recipe] = &[
    Recipe { kernel: CHECKED, fragments: &[include_str!("checked.config")], patched: false, modules: true },
    Recipe {
        kernel: SMALL,
        fragments: &[SMALL_CONFIG, include_str!("unpatched.config")],
        patched: false,
        modules: true,
    },
    Recipe { kernel: PATCHED, fragments: &[SMALL_CONFIG], patched: true, modules: false },
];

/// The kernel, and the folder that modules are built against.
pub fn ready(kernel: &Kernel, workspace: &Workspace, interruption: &Interruption) -> Result<(Stock, PathBuf), String> {
    let recipe = RECIPES.iter().find(|recipe| recipe.kernel.name == kernel.name);
    let recipe = recipe.ok_or_else(|| format!("{} is not built here", kernel.name))?;
    let pristine = source::tree(interruption)?;
    let series = recipe.patched.then(|| Series::read(workspace)).transpose()?;
    let mut hasher = DefaultHasher::new();
    (pristine.as_path(), recipe.fragments, series.as_ref().map(Series::texts)).hash(&mut hasher);
    // Under one name whatever the recipe: the compiler's cache knows files by their paths.
    let root = cache::folder("linux")?.join(kernel.name);
    anew(&root, &format!("{:016x}\n", hasher.finish()))?;
    let mut build = Build { recipe, tree: pristine, build: root.join("build"), root, interruption };
    if let Some(series) = series {
        build.tree = series.tree(&build.tree, &build.root)?;
        series.copy_drivers(&build.tree)?;
        // Whether they have changed is for make to say.
        let _ = fs::remove_file(build.build.join(DONE));
    }
    build.ready()
}

/// An empty folder, unless it has something of the same recipe.
fn anew(root: &Path, recipe: &str) -> Result<(), String> {
    let stamp = root.join(RECIPE);
    if fs::read_to_string(&stamp).is_ok_and(|known| known == recipe) {
        return Ok(());
    }
    let fault = |error: std::io::Error| format!("{}: {error}", root.display());
    if root.exists() {
        fs::remove_dir_all(root).map_err(fault)?;
    }
    fs::create_dir_all(root).map_err(fault)?;
    fs::write(stamp, recipe).map_err(fault)
}

/// One build, whole or not.
struct Build<'run> {
    recipe: &'static Recipe,
    tree: PathBuf,
    build: PathBuf,
    root: PathBuf,
    interruption: &'run Interruption,
}

impl Build<'_> {
    fn ready(self) -> Result<(Stock, PathBuf), String> {
        if !self.build.join(DONE).is_file() {
            println!("  building {}; the first time takes long", self.recipe.kernel.name);
            self.configure()?;
            self.make()?;
        }
        let release = read(&self.build.join(DONE))?;
        Ok((Stock::built(self.recipe.kernel, release.trim().into(), self.root), self.build))
    }

    fn configure(&self) -> Result<(), String> {
        let fault = |error: std::io::Error| format!("{}: {error}", self.root.display());
        if self.build.join(".config").is_file() && self.build.join("vmlinux").is_file() {
            return Ok(());
        }
        fs::create_dir_all(&self.build).map_err(fault)?;
        self.target(&["tinyconfig"])?;
        let mut merge = Command::new(self.tree.join("scripts/kconfig/merge_config.sh"));
        merge.arg("-m").arg("-O").arg(&self.build).arg(self.build.join(".config")).current_dir(&self.tree);
        for (number, fragment) in self.recipe.fragments.iter().enumerate() {
            let file = self.root.join(format!("{number}.config"));
            fs::write(&file, fragment).map_err(fault)?;
            merge.arg(file);
        }
        answer(&mut merge)?;
        self.target(&["olddefconfig"])?;
        all_set(self.recipe, &read(&self.build.join(".config"))?)
    }

    /// From the configuration to a folder that looks as an unpacked package does.
    fn make(&self) -> Result<(), String> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let jobs = format!("-j{processors}");
        self.target(&[&jobs, "bzImage"])?;
        if self.recipe.modules {
            self.target(&[&jobs, "modules"])?;
            self.target(&[&format!("INSTALL_MOD_PATH={}", self.root.display()), "modules_install"])?;
        }
        let release = read(&self.build.join("include/config/kernel.release"))?;
        let boot = self.root.join("boot");
        let fault = |error: std::io::Error| format!("{}: {error}", boot.display());
        fs::create_dir_all(&boot).map_err(fault)?;
        let image = boot.join(format!("vmlinuz-{}", release.trim()));
        fs::copy(self.build.join("arch/x86/boot/bzImage"), image).map_err(fault)?;
        // Last: the build is whole.
        fs::write(self.build.join(DONE), release).map_err(fault)
    }

    fn target(&self, arguments: &[&str]) -> Result<(), String> {
        let mut command = Command::new("make");
        command.args(["-s", "-C"]).arg(&self.tree).arg(format!("O={}", self.build.display()));
        command.args(compiler()).args(arguments);
        carry_out(&mut command, &self.root.join("build.log"), self.interruption)
    }
}

/// ccache in front of the compiler, if it is there.
fn compiler() -> Option<&'static str> {
    let has = Command::new("ccache").arg("--version").output().is_ok_and(|output| output.status.success());
    has.then_some("CC=ccache gcc")
}

fn carry_out(command: &mut Command, log: &Path, interruption: &Interruption) -> Result<(), String> {
    let news = |elapsed: Duration| println!("  ... {} s", elapsed.as_secs());
    match child::run(command, log, Instant::now() + LIMIT, interruption, news) {
        Ok(End::Exited(status)) if status.success() => no_warning(&read(log)?),
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

/// Ours may have none; those of Debian's own source are not ours to mend.
fn no_warning(said: &str) -> Result<(), String> {
    // The cache has our name in its path, too.
    let ours = |line: &str| ["/drivers/pvkit/", "/x86/kernel/pvkit"].iter().any(|place| line.contains(place));
    let warnings: Vec<_> = said.lines().filter(|line| line.contains("warning: ") && ours(line)).collect();
    if warnings.is_empty() { Ok(()) } else { Err(warnings.join("\n")) }
}

/// What the fragments ask for and the configuration does not have was dropped for want of something else.
fn all_set(recipe: &Recipe, config: &str) -> Result<(), String> {
    let lines = || recipe.fragments.iter().flat_map(|fragment| fragment.lines());
    let unset = |name: &str| lines().any(|line| line == format!("# {name} is not set"));
    let dropped: Vec<_> = lines()
        .filter(|line| line.ends_with("=y"))
        .filter(|line| recipe.patched || !line.starts_with(PATCHED_OPTIONS))
        .filter(|line| !line.split_once('=').is_some_and(|(name, _)| unset(name)))
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
        for recipe in RECIPES {
            let whole = recipe.fragments.concat();
            assert_eq!(all_set(recipe, &whole), Ok(()), "{}", recipe.kernel.name);
            let without = whole.replace("CONFIG_PVH=y\n", "# CONFIG_PVH is not set\n");
            assert!(all_set(recipe, &without).expect_err("dropped").contains("CONFIG_PVH=y"));
        }
    }

    #[test]
    fn options_of_the_patches_are_asked_of_a_patched_kernel_alone() {
        let without = SMALL_CONFIG.replace("CONFIG_PVKIT_GUEST=y\n", "");
        let wants = |kernel: &Kernel| {
            let recipe = RECIPES.iter().find(|recipe| recipe.kernel.name == kernel.name).expect("a recipe");
            all_set(recipe, &(without.clone() + include_str!("unpatched.config")))
        };
        assert!(wants(PATCHED).expect_err("dropped").contains("CONFIG_PVKIT_GUEST=y"));
        assert_eq!(wants(SMALL), Ok(()));
    }

    #[test]
    fn folder_of_another_recipe_is_emptied() {
        let root = std::env::temp_dir().join(format!("xtask-builds-{}", std::process::id()));
        let kept = root.join("kept");
        anew(&root, "first").expect("made");
        fs::write(&kept, "").expect("written");
        anew(&root, "first").expect("the same");
        assert!(kept.exists());
        anew(&root, "second").expect("emptied");
        assert!(!kept.exists());
        fs::remove_dir_all(root).expect("removed");
    }

    #[test]
    fn warnings_about_ours_are_noticed() {
        let tree = "/home/x/.cache/pvkit/linux/6.1-pvkit/tree";
        assert!(no_warning(&format!("{tree}/drivers/pvkit/blk.c:3:5: warning: unused variable\n")).is_err());
        assert!(no_warning(&format!("{tree}/arch/x86/kernel/pvkit.c:3:5: warning: unused variable\n")).is_err());
        assert!(no_warning(&format!("{tree}/fs/select.c:612:1: warning: the frame is large\n")).is_ok());
        assert!(no_warning("  CC      drivers/pvkit/blk.o\n").is_ok());
    }
}
