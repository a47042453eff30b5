//! The ABI against its golden file: the compiled crate, the file, the C header and a C compiler must agree.
//!
//! Changing a fact on purpose: see `abi/README.md`, "Changing the ABI".

mod bless;
mod c_program;
mod facts;
mod header;
mod image;
mod names;
mod registry;
mod sample;
mod source;

use facts::{Facts, Item, Value};
use registry::Registry;
use std::collections::BTreeSet;

const REMEDY: &str =
    "If this was not meant, undo it: guests and hosts that are out there would read each other wrongly.
Changing a released layout or number needs a new version (abi/README.md, \"Changing the ABI\"). If the change is meant,
write the files anew: PVKIT_BLESS=1 cargo test -p pvkit-abi";

/// The file of the version that the crate declares.
fn golden_path() -> String {
    format!("golden/abi-{}.txt", pvkit_abi::version::CURRENT)
}

/// What the golden file in the repository says, or is going to say.
fn kept() -> Facts {
    if bless::is_asked_for() {
        return Registry::of_the_crate().facts;
    }
    let path = golden_path();
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(&path);
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("abi/{path}: {error}\n{REMEDY}"));
    image::parse(&text).unwrap_or_else(|error| panic!("abi/{path}: {error}\n{REMEDY}"))
}

#[test]
fn crate_matches_the_golden_file() {
    bless::compare(&golden_path(), &image::emit(&Registry::of_the_crate().facts), REMEDY);
}

#[test]
fn golden_text_reads_back_as_the_same_facts() {
    let facts = Registry::of_the_crate().facts;
    assert_eq!(image::parse(&image::emit(&facts)), Ok(facts));
}

#[test]
fn golden_images_parse_into_structs_and_emit_the_same_bytes() {
    let registry = Registry::of_the_crate();
    let kept = kept();
    assert_eq!(kept.structs().count(), registry.reemit.len());
    for (found, (path, reemit)) in kept.structs().zip(&registry.reemit) {
        assert_eq!(&found.path, path);
        assert_eq!(reemit(&found.image).as_ref(), Some(&found.image), "{path}");
        for at in 0..found.image.len() {
            let mut lie = found.image.clone();
            lie[at] ^= 0x80;
            assert_eq!(reemit(&lie), None, "{path}: byte {at} is in no field");
        }
    }
}

#[test]
fn every_byte_of_a_struct_belongs_to_one_field() {
    for found in Registry::of_the_crate().facts.structs() {
        let mut next = 0;
        for field in &found.fields {
            assert_eq!(field.offset, next, "{}::{}", found.path, field.name);
            next += field.size;
        }
        assert_eq!(next, found.size, "{}", found.path);
    }
}

#[test]
fn header_matches_the_crate() {
    let fresh = header::emit(&Registry::of_the_crate().facts, &source::declarations());
    bless::compare("include/pvkit.h", &fresh, "Write it anew: PVKIT_BLESS=1 cargo test -p pvkit-abi");
}

/// Whether the C checks can be made; says so if not.
fn c_can_be_checked() -> bool {
    if bless::is_asked_for() {
        println!("the header is being written anew: run again without PVKIT_BLESS");
        return false;
    }
    let exists = c_program::compiler_exists();
    if !exists {
        println!("skipped: abi-c: no C compiler (apt-get install gcc)");
    }
    exists
}

#[test]
fn c_header_has_the_golden_layout_in_every_dialect() {
    if c_can_be_checked() {
        let asserts = c_program::emit_asserts(&kept());
        c_program::DIALECTS.iter().for_each(|dialect| c_program::check(&asserts, dialect));
    }
}

#[test]
fn c_program_makes_the_golden_images() {
    if !c_can_be_checked() {
        return;
    }
    let kept = kept();
    let printed = c_program::run(&c_program::emit_program(&kept));
    let mut expected = String::new();
    for item in &kept.0 {
        match item {
            Item::Struct(found) => expected += &format!("{} {}\n", found.path, image::hex(&found.image)),
            Item::Const { path, value: Value::Bytes(bytes), .. } => {
                expected += &format!("{path} {}\n", image::hex(bytes));
            }
            _ => {}
        }
    }
    assert!(printed == expected, "- golden, + C:\n{}", bless::difference(&expected, &printed));
}

#[test]
fn every_declaration_is_in_the_golden_file() {
    let mut listed = BTreeSet::from(["lib".to_owned()]);
    listed.extend(registry::MODULES.map(str::to_owned));
    // Words, not structs in memory: their packing is in the golden file. `GrantRef` is a `u32` on the wire.
    listed.extend(
        [
            "ring::RequestWord",
            "ring::CompletionWord",
            "status::CompletionResult",
            "grant::GrantRef",
            "net::FrameMeta",
            "net::FrameHash",
            "version::CURRENT",
        ]
        .map(str::to_owned),
    );
    for item in Registry::of_the_crate().facts.0 {
        match item {
            Item::Struct(found) => {
                listed.extend(found.fields.iter().map(|field| format!("{}::{}", found.path, field.name)));
                listed.insert(found.path);
            }
            Item::Numbers { path, values, .. } => {
                listed.extend(values.into_iter().map(|(name, _)| format!("{path}::{name}")));
                listed.insert(path);
            }
            Item::Const { path, .. } if path.contains('.') || path.contains("GrantRef") => {}
            Item::Const { path, .. } => drop(listed.insert(path)),
            Item::Packing { .. } => {}
        }
    }
    let declared: BTreeSet<_> = source::declarations().into_keys().collect();
    let unlisted: Vec<_> = declared.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&declared).collect();
    assert!(unlisted.is_empty(), "declared in abi/src, not listed in abi/tests/golden/registry.rs: {unlisted:?}");
    assert!(gone.is_empty(), "listed in abi/tests/golden/registry.rs, not declared in abi/src: {gone:?}");
}
