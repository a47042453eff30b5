//! Links the image at a fixed address with its own layout, on the freestanding target and on the gnu one.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let target = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let script = format!("{directory}/image.ld");
    println!("cargo:rerun-if-changed={script}");
    let arguments: &[&str] = if target == "none" {
        &["--no-pie", "-z", "max-page-size=4096", "--gc-sections", "--script"]
    } else {
        // Through the C compiler: no start files, no libraries, not position-independent.
        &[
            "-nostartfiles",
            "-nostdlib",
            "-static",
            "-no-pie",
            "-Wl,-z,max-page-size=4096,--gc-sections,--build-id=none",
            "-T",
        ]
    };
    for argument in arguments {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins={script}");
}
