//! A small Linux system that runs one script and ends: an init, busybox, the modules it was told to load.
//!
//! The same system serves on every level: as the first virtual machine under emulation, and as the guest inside it. Its
//! init (`scripts/init.sh`) says what the kernel command line can ask of it.

use super::stock::Stock;
use super::tree::Tree;
use std::path::{Path, PathBuf};

const INIT: &str = include_str!("scripts/init.sh");
const BUSYBOX: &str = "/bin/busybox";
/// Where the init finds what it runs.
const SCRIPT: &str = "/scenario";

/// A system for `stock` that loads `modules` and runs `script`; more files may be added before it is packed.
pub fn small(stock: &Stock, modules: &[&str], script: &str) -> Result<Tree, String> {
    let mut tree = Tree::default();
    tree.script("/init", INIT);
    tree.script(SCRIPT, script);
    tree.copy(BUSYBOX, busybox()?);
    tree.link("/bin/sh", "busybox");
    tree.device("/dev/console", 5, 1);
    let mut order = String::new();
    for module in stock.modules()?.with_dependencies(modules)? {
        let file = format!("/modules/{}.ko", module.name);
        order += &file;
        order.push('\n');
        tree.bytes(file, module.object);
    }
    tree.bytes("/modules/order", order);
    Ok(tree)
}

/// The machine's static busybox.
fn busybox() -> Result<PathBuf, String> {
    let places = [BUSYBOX, "/usr/bin/busybox"].map(Path::new);
    let found = places.into_iter().find(|place| place.is_file());
    found.map(Into::into).ok_or_else(|| "no busybox (`apt-get install busybox-static`)".into())
}
