//! What Debian's archive has, as this machine's apt knows it: versions, dependencies, addresses, checksums.

use std::path::Path;
use std::process::Command;

/// One package to be fetched, at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its file's name, which has the version.
    pub file: String,
    /// Its file's size in bytes.
    pub size: u64,
    /// Its file's checksum, in hexadecimal digits.
    pub sha256: String,
}

/// The packages that the newest version of `name` depends on, first alternatives only.
pub fn dependencies(name: &str) -> Result<Vec<String>, String> {
    let text = answer(apt("apt-cache").args(["show", "--no-all-versions", name]))
        .map_err(|error| format!("{name} is not known here (`apt-get update`): {error}"))?;
    Ok(parse_depends(&text))
}

/// Size, checksum and file of the newest version of each.
pub fn listing(names: &[String]) -> Result<Vec<Package>, String> {
    let text = answer(apt("apt-get").args(["download", "--print-uris", "-q"]).args(names))?;
    names
        .iter()
        .map(|name| {
            let found = text.lines().filter_map(parse_uri).find(|package| package.name == *name);
            found.ok_or_else(|| format!("apt has no address and SHA-256 for {name} (`apt-get update`)"))
        })
        .collect()
}

/// The command that fetches `name` into `folder`.
pub fn fetching(name: &str, folder: &Path) -> Command {
    let mut command = apt("apt-get");
    command.args(["download", "-q", "-o", "Acquire::Retries=3", "-o", "APT::Sandbox::User=root", name]);
    command.current_dir(folder);
    command
}

fn apt(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C");
    command
}

/// Standard output of a program that ended well; else what it said.
pub fn answer(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program} cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

fn parse_depends(text: &str) -> Vec<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap_or_default();
    let name = |word: &str| word.split_whitespace().next().unwrap_or_default().to_owned();
    line.split(',').map(name).filter(|name| !name.is_empty()).collect()
}

/// `'http://host/pool/x.deb' x_1_amd64.deb 123 SHA256:abc`
fn parse_uri(line: &str) -> Option<Package> {
    let mut words = line.strip_prefix('\'')?.split(' ').skip(1);
    let (file, size, sum) = (words.next()?, words.next()?, words.next()?);
    let name = file.split('_').next()?;
    // Slashes would lead out of the folder that the file belongs in.
    let sound = !file.contains('/') && !name.is_empty();
    let sha256 = sum.strip_prefix("SHA256:")?;
    sound.then_some(())?;
    Some(Package { name: name.into(), file: file.into(), size: size.parse().ok()?, sha256: sha256.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_without_versions_and_alternatives() {
        let text = "Package: x\nDepends: linux-base (>= 4.12~), a-image (= 6.1) | a-image-unsigned, gcc-12\nSize: 3\n";
        assert_eq!(parse_depends(text), ["linux-base", "a-image", "gcc-12"]);
    }

    #[test]
    fn package_without_dependencies_has_none() {
        assert!(parse_depends("Package: x\nSize: 3\n").is_empty());
    }

    #[test]
    fn address_line_of_apt_is_understood() {
        let package = parse_uri("'http://host/pool/x_1_amd64.deb' x_1%3a2_amd64.deb 123 SHA256:abc").expect("legal");
        let expected = Package { name: "x".into(), file: "x_1%3a2_amd64.deb".into(), size: 123, sha256: "abc".into() };
        assert_eq!(package, expected);
    }

    #[test]
    fn line_without_a_sha256_or_with_a_path_is_refused() {
        for line in ["Reading lists", "'http://h/x' x 123 MD5Sum:abc", "'http://h/x' ../x_1.deb 123 SHA256:abc"] {
            assert_eq!(parse_uri(line), None, "{line}");
        }
    }
}
