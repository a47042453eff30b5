//! The C header is what the sources say, and C compilers take it without a warning.

use std::path::{Path, PathBuf};
use std::process::Command;

const HEADER: &str = "include/pvkit_guest.h";
/// In the order in which a reader meets them in the header.
const SOURCES: [&str; 6] = ["error", "start", "block", "console", "net", "end"];

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The header as it should be. What the documentation says to Rust alone is left out.
fn fresh() -> String {
    let config = cbindgen::Config::from_file(folder().join("cbindgen.toml")).expect("cbindgen.toml is legal");
    let builder = cbindgen::Builder::new().with_config(config);
    let builder =
        SOURCES.iter().fold(builder, |builder, source| builder.with_src(folder().join(format!("src/{source}.rs"))));
    let mut text = Vec::new();
    builder.generate().expect("the sources are plain enough").write(&mut text);
    String::from_utf8(text).expect("the sources are UTF-8").replace(" * # Safety\n", "")
}

#[test]
fn header_is_what_the_sources_say() {
    let (path, fresh) = (folder().join(HEADER), fresh());
    if std::env::var_os("PVKIT_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &fresh).expect("the crate's folder is writable");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = fresh.lines().zip(kept.lines()).find(|(fresh, kept)| fresh != kept);
    assert!(
        kept == fresh,
        "{HEADER} is not what the sources say; first: {differing:?}\nwrite it anew with PVKIT_BLESS=1"
    );
}

#[test]
fn header_names_every_exported_function() {
    let fresh = fresh();
    for file in std::fs::read_dir(folder().join("src")).expect("a folder of sources") {
        let text = std::fs::read_to_string(file.expect("readable").path()).expect("UTF-8");
        for after in text.split("extern \"C\" fn ").skip(1) {
            let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(fresh.contains(&format!(" {name}(")) || fresh.contains(&format!("*{name}(")), "{name} is missing");
        }
    }
}

/// Compiles one line of C that uses the header, as `language`.
fn compiles(compiler: &str, language: &str, standard: &str, code: &str) -> Option<bool> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source: PathBuf = folder.path().join("use.c");
    std::fs::write(&source, format!("#include \"pvkit.h\"\n#include \"pvkit_guest.h\"\n{code}\n")).expect("writable");
    let output = Command::new(compiler)
        .args([
            "-x",
            language,
            standard,
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Werror",
            "-ffreestanding",
            "-fsyntax-only",
        ])
        .arg("-I")
        .arg(self::folder().join("include"))
        .arg("-I")
        .arg(self::folder().join("../../abi/include"))
        .arg(&source)
        .output();
    match output {
        Ok(output) => {
            print!("{}", String::from_utf8_lossy(&output.stderr));
            Some(output.status.success())
        }
        Err(_) => {
            println!("skipped: {compiler}: no such compiler");
            None
        }
    }
}

#[test]
fn c_and_cxx_compilers_take_the_header_and_refuse_its_misuse() {
    let good =
        "int main(void) { struct pvkit_block_geometry g; return pvkit_block_geometry(1, &g) == PVKIT_ERROR_BUSY; }";
    let bad = "int main(void) { return pvkit_block_geometry(1, 2, 3); }";
    for (compiler, language, standard) in
        [("cc", "c", "-std=c99"), ("cc", "c", "-std=gnu17"), ("c++", "c++", "-std=c++17")]
    {
        if let Some(taken) = compiles(compiler, language, standard, good) {
            assert!(taken, "{language} {standard}");
            assert_eq!(compiles(compiler, language, standard, bad), Some(false), "{language} {standard}");
        }
    }
}
