//! Links by a layout of our own, on the freestanding target alone.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let script = format!("{directory}/no-panic.ld");
    println!("cargo:rerun-if-changed={script}");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "none") {
        for argument in ["--gc-sections", "--script", &script] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}
