//! A C program that knows only the header and the golden file: asserts what the file says, and prints its own samples.

use crate::facts::{Facts, Item, Shape, Struct, Value};
use crate::{header, names, sample};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// The header stands first, so that it must bring what it needs.
const ASSERTS_HEAD: &str = "#include \"pvkit.h\"\n#include <stddef.h>\n\n";

const HEAD: &str = r#"#include "pvkit.h"
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

/// Asserts of every size, offset and number. Compiles in a kernel too.
pub fn emit_asserts(facts: &Facts) -> String {
    let mut text = ASSERTS_HEAD.to_owned();
    for item in &facts.0 {
        match item {
            Item::Struct(found) => assert_layout(&mut text, found),
            Item::Numbers { path, raw, values } => {
                for (name, value) in values {
                    assert_equal(&mut text, &names::value(path, name), &header::literal(raw, *value));
                }
            }
            Item::Const { path, kind, value: Value::Number(value) } => {
                assert_equal(&mut text, &names::constant(path), &header::literal(kind, *value));
            }
            Item::Const { .. } | Item::Packing { .. } => {}
        }
    }
    text
}

/// A program that checks the packings and prints, a line each, the path and the bytes of every sample.
pub fn emit_program(facts: &Facts) -> String {
    let mut body = String::new();
    for item in &facts.0 {
        match item {
            Item::Struct(found) => fill_sample(&mut body, facts, found),
            Item::Const { path, value: Value::Bytes(bytes), .. } => {
                let name = names::constant(path);
                writeln!(body, "\tprint(\"{path}\", {name}, {});", bytes.len()).expect("a string");
            }
            Item::Packing { call, arguments, word } => check_packing(&mut body, call, arguments, *word),
            Item::Numbers { .. } | Item::Const { .. } => {}
        }
    }
    format!("{HEAD}\nint main(void)\n{{\n{body}\treturn 0;\n}}\n")
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

/// How the asserts are compiled: as a program of today, as part of a kernel, and where 64-bit fields are aligned to 4.
pub const DIALECTS: &[&[&str]] = &[
    &["-std=c11"],
    &["-std=gnu11", "-ffreestanding", "-D__KERNEL__"],
    #[cfg(target_arch = "x86_64")]
    &["-std=c11", "-ffreestanding", "-m32"],
];

/// Whether there is a C compiler.
pub fn compiler_exists() -> bool {
    Command::new("cc").arg("--version").output().is_ok()
}

/// Compiles the asserts, which is their check.
///
/// # Panics
/// If the compiler refuses them.
pub fn check(asserts: &str, dialect: &[&str]) {
    compile("abi_asserts.c", asserts, |cc| cc.args(dialect).arg("-fsyntax-only"));
}

/// Compiles the program as C11 and runs it; what it printed.
///
/// # Panics
/// If the compiler refuses the program, or the program fails.
pub fn run(program: &str) -> String {
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join("abi_program");
    compile("abi_program.c", program, |cc| cc.arg("-std=c11").arg("-o").arg(&binary));
    let output = Command::new(&binary).output().expect("the program that was just compiled starts");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = printed.lines().last().unwrap_or("something");
    assert!(output.status.success(), "C and the golden file disagree about {last}");
    printed
}

fn compile<'a>(name: &str, text: &str, how: impl FnOnce(&mut Command) -> &mut Command + 'a) {
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&source, text).expect("the target folder is writable");
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let mut cc = Command::new("cc");
    cc.args(["-Wall", "-Wextra", "-Werror", "-I"]).arg(include).arg(&source);
    let compiled = how(&mut cc).output().expect("the C compiler starts");
    assert!(compiled.status.success(), "{cc:?} fails:\n{}", String::from_utf8_lossy(&compiled.stderr));
}
