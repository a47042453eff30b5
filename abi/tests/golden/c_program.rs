//! A C program that knows only the header and the golden file: asserts what the file says, and prints its own samples.

use crate::facts::{Facts, Item, Shape, Struct, Value};
use crate::{header, names, sample};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

const HEAD: &str = r#"#include "pvkit.h"
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static void print(const char *name, const void *bytes, size_t size)
{
	const unsigned char *byte = bytes;
	printf("%s", name);
	for (size_t i = 0; i < size; i++)
		printf(" %02x", byte[i]);
	printf("\n");
}

"#;

/// The program's text. Each line that it prints is a struct's path and its sample's bytes.
pub fn emit(facts: &Facts) -> String {
    let mut asserts = String::new();
    let mut body = String::new();
    for item in &facts.0 {
        match item {
            Item::Struct(found) => {
                assert_layout(&mut asserts, found);
                fill_sample(&mut body, facts, found);
            }
            Item::Numbers { path, raw, values } => {
                for (name, value) in values {
                    assert_equal(&mut asserts, &names::value(path, name), &header::literal(raw, *value));
                }
            }
            Item::Const { path, kind, value: Value::Number(value) } => {
                assert_equal(&mut asserts, &names::constant(path), &header::literal(kind, *value));
            }
            Item::Const { path, value: Value::Bytes(bytes), .. } => {
                let name = names::constant(path);
                writeln!(body, "\tprint(\"{path}\", {name}, {});", bytes.len()).expect("a string");
            }
            Item::Packing { call, arguments, word } => check_packing(&mut body, call, arguments, *word),
        }
    }
    format!("{HEAD}{asserts}\nint main(void)\n{{\n{body}\treturn 0;\n}}\n")
}

fn assert_equal(text: &mut String, name: &str, value: &str) {
    writeln!(text, "_Static_assert({name} == {value}, \"{name}\");").expect("a string");
}

fn assert_layout(text: &mut String, found: &Struct) {
    let tag = names::structure(&found.path);
    assert_equal(text, &format!("sizeof(struct {tag})"), &found.size.to_string());
    for field in &found.fields {
        let name = names::field(&field.name);
        assert_equal(text, &format!("offsetof(struct {tag}, {name})"), &field.offset.to_string());
        assert_equal(text, &format!("sizeof(((struct {tag} *)0)->{name})"), &field.size.to_string());
    }
}

fn fill_sample(text: &mut String, facts: &Facts, found: &Struct) {
    let tag = names::structure(&found.path);
    write!(text, "\t{{\n\t\tstruct {tag} s;\n\t\tmemset(&s, 0, sizeof(s));\n").expect("a string");
    fill(text, facts, &found.path, "s", &mut 0);
    write!(text, "\t\tprint(\"{}\", &s, sizeof(s));\n\t}}\n", found.path).expect("a string");
}

/// Assigns to every leaf of `place`, in order.
fn fill(text: &mut String, facts: &Facts, kind: &str, place: &str, leaf: &mut u64) {
    match facts.shape(kind) {
        Shape::Struct(found) => {
            for field in &found.fields {
                fill(text, facts, &field.kind, &format!("{place}.{}", names::field(&field.name)), leaf);
            }
        }
        Shape::Array(element, count) => {
            for i in 0..count {
                fill(text, facts, &element, &format!("{place}[{i}]"), leaf);
            }
        }
        Shape::Integer(raw) => {
            *leaf += 1;
            let bits: usize = raw[1..].parse().expect("an integer's name ends in its bits");
            writeln!(text, "\t\t{place} = {:#x};", sample::leaf_value(*leaf, bits / 8)).expect("a string");
        }
    }
}

fn check_packing(text: &mut String, call: &str, arguments: &[u64], word: u64) {
    let arguments: Vec<_> = arguments.iter().map(|argument| format!("{argument:#x}U")).collect();
    let call = format!("pvkit_{call}({})", arguments.join(", "));
    write!(text, "\tif ((pvkit_u64){call} != {word:#x}ULL)\n\t\treturn puts(\"{call}\"), 1;\n").expect("a string");
}

/// Compiles the program as C11 and runs it; what it printed. `None` if there is no C compiler.
///
/// # Panics
/// If there is one and it refuses the program, or the program fails.
pub fn run(program: &str) -> Option<String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, binary) = (folder.join("abi_check.c"), folder.join("abi_check"));
    std::fs::write(&source, program).expect("the target folder is writable");
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let compiled = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-I"])
        .args([include.as_path(), source.as_path()])
        .arg("-o")
        .arg(&binary)
        .output();
    let compiled = match compiled {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        other => other.expect("the C compiler starts"),
    };
    assert!(
        compiled.status.success(),
        "cc refused {}:\n{}",
        source.display(),
        String::from_utf8_lossy(&compiled.stderr)
    );
    let output = Command::new(&binary).output().expect("the program that was just compiled starts");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "C and the golden file disagree about {}",
        printed.lines().last().unwrap_or("something")
    );
    Some(printed)
}
