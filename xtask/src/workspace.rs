//! The workspace as `cargo metadata` tells it: folders, packages, their dependencies.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace this xtask belongs to.
pub struct Workspace {
    /// The folder of the root manifest.
    pub root: PathBuf,
    /// Where cargo builds.
    pub target: PathBuf,
    /// Members, in cargo's order.
    pub packages: Vec<Package>,
}

/// One member.
#[derive(Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its folder, relative to the root.
    pub folder: PathBuf,
    /// What it depends on, of every kind and for every target.
    pub dependencies: Vec<Dependency>,
}

/// One declared dependency.
#[derive(Debug)]
pub struct Dependency {
    /// The package's name.
    pub name: String,
    /// `normal`, `dev` or `build`.
    pub kind: String,
    /// The folder relative to the root; `None` for a package from elsewhere.
    pub folder: Option<PathBuf>,
}

impl Workspace {
    /// Asks cargo, without touching the network.
    pub fn load() -> Result<Self, String> {
        let output = Command::new("cargo")
            .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output()
            .map_err(|error| format!("cargo cannot be started: {error}"))?;
        if !output.status.success() {
            return Err(format!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr)));
        }
        Self::parse(&output.stdout)
    }

    fn parse(metadata: &[u8]) -> Result<Self, String> {
        let json: Value = serde_json::from_slice(metadata).map_err(|error| format!("cargo metadata: {error}"))?;
        let root = path(&json, "workspace_root")?;
        let packages =
            list(&json, "packages")?.iter().map(|package| Package::parse(package, &root)).collect::<Result<_, _>>()?;
        Ok(Self { target: path(&json, "target_directory")?, packages, root })
    }

    /// The version of a package in Cargo.lock, if it is there.
    pub fn locked_version(&self, name: &str) -> Option<String> {
        locked_version(&std::fs::read_to_string(self.root.join("Cargo.lock")).ok()?, name)
    }
}

impl Package {
    fn parse(json: &Value, root: &Path) -> Result<Self, String> {
        let manifest = path(json, "manifest_path")?;
        let folder = manifest.parent().ok_or("a manifest without a folder")?;
        let dependencies =
            list(json, "dependencies")?.iter().map(|edge| Dependency::parse(edge, root)).collect::<Result<_, _>>()?;
        Ok(Self { name: text(json, "name")?, folder: relative(folder, root), dependencies })
    }
}

impl Dependency {
    fn parse(json: &Value, root: &Path) -> Result<Self, String> {
        let folder = json.get("path").and_then(Value::as_str).map(|folder| relative(Path::new(folder), root));
        let kind = json.get("kind").and_then(Value::as_str).unwrap_or("normal");
        Ok(Self { name: text(json, "name")?, kind: kind.into(), folder })
    }
}

/// Takes out of the environment what cargo told xtask about xtask: it is not for a cargo that xtask starts.
pub fn as_from_a_shell(command: &mut Command) {
    let of_xtask = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_xtask)) {
        command.env_remove(name);
    }
}

fn relative(folder: &Path, root: &Path) -> PathBuf {
    folder.strip_prefix(root).unwrap_or(folder).to_path_buf()
}

fn text(json: &Value, key: &str) -> Result<String, String> {
    json.get(key).and_then(Value::as_str).map(Into::into).ok_or_else(|| format!("cargo metadata has no `{key}`"))
}

fn path(json: &Value, key: &str) -> Result<PathBuf, String> {
    text(json, key).map(Into::into)
}

fn list<'json>(json: &'json Value, key: &str) -> Result<&'json [Value], String> {
    json.get(key).and_then(Value::as_array).map(Vec::as_slice).ok_or_else(|| format!("cargo metadata has no `{key}`"))
}

fn locked_version(lock: &str, name: &str) -> Option<String> {
    let wanted = format!("name = \"{name}\"");
    let mut lines = lock.lines().skip_while(|line| *line != wanted);
    lines.next()?;
    Some(lines.next()?.strip_prefix("version = \"")?.trim_end_matches('"').into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_and_their_folders_are_relative_to_the_root() {
        let metadata = br#"{"workspace_root":"/w","target_directory":"/w/target","packages":[
            {"name":"ring","manifest_path":"/w/ring/Cargo.toml","dependencies":[
                {"name":"abi","kind":null,"path":"/w/abi"},{"name":"proptest","kind":"dev"}]}]}"#;
        let workspace = Workspace::parse(metadata).expect("legal metadata");
        let ring = &workspace.packages[0];
        assert_eq!(ring.folder, Path::new("ring"));
        assert_eq!(ring.dependencies[0].folder.as_deref(), Some(Path::new("abi")));
        assert_eq!((ring.dependencies[1].kind.as_str(), &ring.dependencies[1].folder), ("dev", &None));
    }

    #[test]
    fn metadata_without_packages_is_an_error_that_names_the_key() {
        let error = Workspace::parse(br#"{"workspace_root":"/w"}"#).err().expect("not legal");
        assert!(error.contains("packages"), "{error}");
    }

    #[test]
    fn the_locked_version_is_of_exactly_that_package() {
        let lock = "[[package]]\nname = \"gungraun-runner\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \"gungraun\"\nversion = \"0.20.0\"\n";
        assert_eq!(locked_version(lock, "gungraun").as_deref(), Some("0.20.0"));
        assert_eq!(locked_version(lock, "absent"), None);
    }
}
