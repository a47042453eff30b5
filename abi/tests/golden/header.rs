//! The C header, from the facts and the crate's documentation.
//!
//! cbindgen was tried first: it does not see through `open_enum!` without a nightly compiler, leaves out constants that
//! are computed, has one name space for all modules, and writes `uintptr_t` casts into macros that a preprocessor must
//! understand.

use crate::facts::{Docs, Facts, Item, Shape, Struct, Value};
use crate::names;
use pvkit_abi::version::CURRENT;
use std::fmt::Write as _;

const HEAD: &str = "\
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * The pvkit ABI, version {version}: the facts on which guest and host agree. Little endian, everywhere. abi/README.md
 * tells who writes which field, and when.
 *
 * Generated from the Rust crate pvkit-abi by `PVKIT_BLESS=1 cargo test -p pvkit-abi`. Do not edit.
 */
#ifndef PVKIT_H
#define PVKIT_H

#ifdef __KERNEL__
#include <linux/types.h>
typedef __u8 pvkit_u8;
typedef __u16 pvkit_u16;
typedef __u32 pvkit_u32;
typedef __u64 pvkit_u64;
typedef __s32 pvkit_i32;
typedef __s64 pvkit_i64;
#else
#include <stdint.h>
typedef uint8_t pvkit_u8;
typedef uint16_t pvkit_u16;
typedef uint32_t pvkit_u32;
typedef uint64_t pvkit_u64;
typedef int32_t pvkit_i32;
typedef int64_t pvkit_i64;
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error \"the pvkit ABI is little endian; a big-endian port needs conversions at every field\"
#endif
";

/// Writes the header.
pub fn emit(facts: &Facts, docs: &Docs) -> String {
    let mut text = HEAD.replace("{version}", &CURRENT.to_string());
    let mut module = "";
    for item in &facts.0 {
        let path = match item {
            Item::Struct(found) => &found.path,
            Item::Numbers { path, .. } | Item::Const { path, .. } => path,
            Item::Packing { .. } => continue,
        };
        let parent = path.split_once("::").map_or("", |(parent, _)| parent);
        if parent != module {
            module = parent;
            section(&mut text, docs, module);
        }
        text.push('\n');
        emit_item(&mut text, facts, docs, item);
    }
    text + "\n" + include_str!("packing.h.in") + "\n#endif /* PVKIT_H */\n"
}

fn section(text: &mut String, docs: &Docs, module: &str) {
    write!(text, "\n/*\n * ---- {module} ----\n *\n").expect("a string");
    comment_lines(text, "", docs.get(module).map_or("", String::as_str));
    text.push_str(" */\n");
}

fn emit_item(text: &mut String, facts: &Facts, docs: &Docs, item: &Item) {
    match item {
        Item::Struct(found) => emit_struct(text, facts, docs, found),
        Item::Numbers { path, raw, values } => {
            comment(text, "", &format!("{} ({raw})\n{}", names::last(path), doc(docs, path)));
            for (name, value) in values {
                comment(text, "", doc(docs, &format!("{path}::{name}")));
                let suffix = if raw == "u64" { "ULL" } else { "U" };
                writeln!(text, "#define {} {value:#x}{suffix}", names::value(path, name)).expect("a string");
            }
        }
        Item::Const { path, kind, value } => {
            comment(text, "", doc(docs, path.split('.').next().unwrap_or(path)));
            let value = match value {
                Value::Number(number) => literal(kind, *number),
                Value::Bytes(bytes) => format!("\"{}\"", bytes.escape_ascii().to_string().replace("\\x00", "\\0")),
            };
            writeln!(text, "#define {} {value}", names::constant(path)).expect("a string");
        }
        Item::Packing { .. } => {}
    }
}

fn emit_struct(text: &mut String, facts: &Facts, docs: &Docs, found: &Struct) {
    comment(text, "", doc(docs, &found.path));
    writeln!(text, "struct {} {{", names::structure(&found.path)).expect("a string");
    for field in &found.fields {
        comment(text, "\t", doc(docs, &format!("{}::{}", found.path, field.name)));
        let (kind, suffix) = declarator(facts, &field.kind);
        writeln!(text, "\t{kind} {}{suffix};", names::field(&field.name)).expect("a string");
    }
    text.push_str("};\n");
}

/// What stands before and after the name of a field of type `kind`.
fn declarator(facts: &Facts, kind: &str) -> (String, String) {
    match facts.shape(kind) {
        Shape::Integer(raw) => (names::integer(&raw), String::new()),
        Shape::Struct(found) => (format!("struct {}", names::structure(&found.path)), String::new()),
        Shape::Array(element, count) => {
            let (kind, suffix) = declarator(facts, &element);
            (kind, format!("[{count}]{suffix}"))
        }
    }
}

/// A literal of the Rust type `raw`: small and round numbers in decimal, others in hexadecimal.
pub fn literal(raw: &str, value: u64) -> String {
    let suffix = if raw == "u64" { "ULL" } else { "U" };
    let decimal = value < 256 || value.is_power_of_two() && value <= 65536;
    if decimal { format!("{value}{suffix}") } else { format!("{value:#x}{suffix}") }
}

fn doc<'a>(docs: &'a Docs, path: &str) -> &'a str {
    docs.get(path).map_or("", String::as_str)
}

fn comment(text: &mut String, indent: &str, doc: &str) {
    let doc = doc.trim();
    if doc.is_empty() {
        return;
    }
    if !doc.contains('\n') {
        return writeln!(text, "{indent}/* {} */", plain(doc)).expect("a string");
    }
    writeln!(text, "{indent}/*").expect("a string");
    comment_lines(text, indent, doc);
    writeln!(text, "{indent} */").expect("a string");
}

fn comment_lines(text: &mut String, indent: &str, doc: &str) {
    for line in doc.lines() {
        let line = format!("{indent} * {}", plain(line));
        writeln!(text, "{}", line.trim_end()).expect("a string");
    }
}

/// Rust's documentation without its links.
fn plain(line: &str) -> String {
    line.replace("[`", "`").replace("`]", "`").replace("crate::", "").replace("*/", "* /")
}
