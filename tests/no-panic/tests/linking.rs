//! The image links, and would not if a function of it could panic.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const TARGET: &str = "x86_64-unknown-none";

fn link(features: &[&str]) -> Output {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--package", "pvkit-no-panic", "--profile", "guest", "--target", TARGET]);
    cargo.args(features).current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.output().expect("cargo runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn no_function_of_the_ring_can_panic_and_one_that_can_does_not_link() {
    // One after the other: both are the same file.
    let mutant = link(&["--features", "mutants"]);
    let told = text(&mutant);
    assert!(!mutant.status.success(), "a function that indexes without a check is linked");
    assert!(told.contains("refers to a discarded section"), "it fails for another reason:\n{told}");
    let image = link(&[]);
    assert!(image.status.success(), "{}", text(&image));
}

#[test]
fn every_public_function_of_the_ring_is_in_the_image() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let image = sources(&here.join("src/image"));
    let ring = sources(&here.join("../../ring/ring/src"));
    let public = |line: &str| -> Option<String> {
        let rest = line.trim_start().strip_prefix("pub ")?;
        let rest = rest.strip_prefix("const ").unwrap_or(rest).strip_prefix("fn ")?;
        Some(rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect())
    };
    let names: Vec<String> = ring.lines().filter_map(public).collect();
    assert!(names.len() > 40, "the ring's functions are found: {names:?}");
    let missing = |name: &&String| !image.contains(&format!(".{name}(")) && !image.contains(&format!("::{name}("));
    let missing: Vec<_> = names.iter().filter(missing).collect();
    assert!(missing.is_empty(), "in no image: {missing:?}");
}

fn sources(folder: &Path) -> String {
    let files = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let files = files.filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    files.map(|path| fs::read_to_string(path).expect("a source")).collect()
}
