//! Kernel modules out of an unpacked package: found by name, with what they depend on, ready to be loaded.
//!
//! Debian's packages have no `modules.dep` (depmod runs at installation), so each module is asked: its `.modinfo` has
//! `depends=`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The modules of one kernel.
pub struct Modules {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

/// One module, as the kernel takes it.
#[derive(Clone, Debug)]
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// The object.
    pub object: Vec<u8>,
}

impl Modules {
    /// Those below `lib/modules/RELEASE`; none of a kernel that was built without.
    pub fn below(folder: &Path) -> Result<Self, String> {
        let mut files = BTreeMap::new();
        if !folder.join("kernel").is_dir() {
            return Ok(Self { files, builtin: BTreeSet::new() });
        }
        collect(&folder.join("kernel"), &mut files).map_err(|error| format!("{}: {error}", folder.display()))?;
        let list = folder.join("modules.builtin");
        let list = fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
        let builtin = list.lines().filter_map(|line| name_of(Path::new(line))).collect();
        Ok(Self { files, builtin })
    }

    /// These modules and all that they depend on, in an order in which they can be loaded. What is built in is left out.
    pub fn with_dependencies(&self, names: &[&str]) -> Result<Vec<Module>, String> {
        let mut ordered = Vec::new();
        for name in names {
            self.add(&canonical(name), &mut ordered, &mut BTreeSet::new())?;
        }
        Ok(ordered)
    }

    fn add(&self, name: &str, ordered: &mut Vec<Module>, above: &mut BTreeSet<String>) -> Result<(), String> {
        if self.builtin.contains(name) || ordered.iter().any(|module| module.name == name) {
            return Ok(());
        }
        if !above.insert(name.into()) {
            return Err(format!("module {name} depends on itself"));
        }
        let file = self.files.get(name).ok_or_else(|| format!("this kernel has no module {name}"))?;
        let object = read(file)?;
        for dependency in depends(&object) {
            self.add(&dependency, ordered, above)?;
        }
        ordered.push(Module { name: name.into(), object });
        Ok(())
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = name_of(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// `kernel/arch/x86/kvm/kvm-amd.ko.xz` is `kvm_amd`.
fn name_of(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, _) = file.split_once(".ko")?;
    Some(canonical(name))
}

fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(file).map_err(|error| format!("{}: {error}", file.display()));
    }
    let output = Command::new("xz").args(["-dc"]).arg(file).output();
    let output = output.map_err(|error| format!("xz cannot be started: {error}"))?;
    if output.status.success() { Ok(output.stdout) } else { Err(format!("{}: damaged", file.display())) }
}

/// What the module says it needs loaded before it.
fn depends(object: &[u8]) -> Vec<String> {
    // `.modinfo` is a list of strings that each end with a zero byte.
    let mut strings = object.split(|byte| *byte == 0);
    let list = strings.find_map(|string| string.strip_prefix(b"depends=")).unwrap_or_default();
    let list = String::from_utf8_lossy(list);
    list.split(',').filter(|name| !name.is_empty()).map(canonical).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(name: &str, modules: &[(&str, &str)]) -> (PathBuf, Modules) {
        let root = std::env::temp_dir().join(format!("xtask-modules-{name}-{}", std::process::id()));
        fs::create_dir_all(root.join("kernel/deep")).expect("folders");
        fs::write(root.join("modules.builtin"), "kernel/fs/ext4.ko\n").expect("written");
        for (file, depends) in modules {
            let object = format!("\x7fELF..\0license=GPL\0depends={depends}\0name=x\0");
            fs::write(root.join("kernel/deep").join(file), object).expect("written");
        }
        let modules = Modules::below(&root).expect("legal");
        (root, modules)
    }

    fn names(modules: &Modules, wanted: &[&str]) -> Result<Vec<String>, String> {
        Ok(modules.with_dependencies(wanted)?.into_iter().map(|module| module.name).collect())
    }

    #[test]
    fn dependencies_are_loaded_first_and_each_once() {
        let parts = [("kvm-amd.ko", "kvm,ext4"), ("kvm.ko", "irqbypass"), ("irqbypass.ko", "")];
        let (root, modules) = kernel("order", &parts);
        assert_eq!(names(&modules, &["kvm", "kvm-amd", "ext4"]).expect("legal"), ["irqbypass", "kvm", "kvm_amd"]);
        fs::remove_dir_all(root).expect("removed");
    }

    #[test]
    fn module_that_is_not_there_is_named() {
        let (root, modules) = kernel("absent", &[("a.ko", "b")]);
        assert!(names(&modules, &["a"]).expect_err("absent").contains("no module b"));
        fs::remove_dir_all(root).expect("removed");
    }

    #[test]
    fn circle_of_modules_is_an_error() {
        let (root, modules) = kernel("circle", &[("a.ko", "b"), ("b.ko", "a")]);
        assert!(names(&modules, &["a"]).is_err());
        fs::remove_dir_all(root).expect("removed");
    }
}
