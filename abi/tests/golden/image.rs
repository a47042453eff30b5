//! The golden file: [`Facts`] as text that a person can read and a program can read back.

use crate::facts::{Facts, Field, Item, Struct, Value};
use std::fmt::Write as _;

const INTRODUCTION: &str = "\
# The facts of the pvkit ABI, as a build of this crate sees them. Written by `PVKIT_BLESS=1 cargo test -p pvkit-abi`.
# struct PATH SIZE, then each field (name, offset, size, type), then the bytes of a sample: every leaf (array elements
# too) holds 0x7766554433221100 cut to its width (one byte: 0) plus its own number, counted from 1. Little endian.
";

/// Writes the file.
pub fn emit(facts: &Facts) -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut after_block = true;
    for item in &facts.0 {
        let block = matches!(item, Item::Struct(_) | Item::Numbers { .. });
        if block || after_block {
            text.push('\n');
        }
        emit_item(&mut text, item);
        after_block = block;
    }
    text
}

fn emit_item(text: &mut String, item: &Item) {
    match item {
        Item::Struct(found) => emit_struct(text, found),
        Item::Numbers { path, raw, values } => {
            writeln!(text, "numbers {path} {raw}").expect("a string");
            for (name, value) in values {
                writeln!(text, "  {name} {value:#x}").expect("a string");
            }
        }
        Item::Const { path, kind, value } => {
            let value = match value {
                Value::Number(number) => format!("{number:#x}"),
                Value::Bytes(bytes) => hex(bytes),
            };
            writeln!(text, "const {path} {value} {kind}").expect("a string");
        }
        Item::Packing { call, arguments, word } => {
            let arguments: Vec<_> = arguments.iter().map(|argument| format!("{argument:#x}")).collect();
            writeln!(text, "packing {call} {} = {word:#x}", arguments.join(" ")).expect("a string");
        }
    }
}

fn emit_struct(text: &mut String, found: &Struct) {
    writeln!(text, "struct {} {}", found.path, found.size).expect("a string");
    for Field { name, kind, offset, size } in &found.fields {
        writeln!(text, "  {name} {offset} {size} {kind}").expect("a string");
    }
    for (line, bytes) in found.image.chunks(16).enumerate() {
        writeln!(text, "  {:03x}: {}", line * 16, hex(bytes)).expect("a string");
    }
}

/// `01 02 ff`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// Reads the file back.
///
/// # Errors
/// The first line that is not understood.
pub fn parse(text: &str) -> Result<Facts, String> {
    let mut facts = Facts::default();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        parse_line(&mut facts, line).ok_or_else(|| format!("line {}: `{line}` is not understood", number + 1))?;
    }
    Ok(facts)
}

fn parse_line(facts: &mut Facts, line: &str) -> Option<()> {
    if let Some(detail) = line.strip_prefix("  ") {
        return parse_detail(facts.0.last_mut()?, detail);
    }
    let (what, rest) = line.split_once(' ')?;
    facts.0.push(match what {
        "struct" => {
            let (path, size) = rest.split_once(' ')?;
            Item::Struct(Struct { path: path.into(), size: size.parse().ok()?, fields: vec![], image: vec![] })
        }
        "numbers" => {
            let (path, raw) = rest.split_once(' ')?;
            Item::Numbers { path: path.into(), raw: raw.into(), values: vec![] }
        }
        "const" => parse_const(rest)?,
        "packing" => {
            let (call, rest) = rest.split_once(' ')?;
            let (arguments, word) = rest.split_once(" = ")?;
            let arguments = arguments.split(' ').map(number).collect::<Option<_>>()?;
            Item::Packing { call: call.into(), arguments, word: number(word)? }
        }
        _ => return None,
    });
    Some(())
}

fn parse_const(rest: &str) -> Option<Item> {
    let (path, rest) = rest.split_once(' ')?;
    let (value, kind) = match rest.find('[') {
        Some(at) => (Value::Bytes(bytes(rest[..at].trim_end())?), &rest[at..]),
        None => {
            let (value, kind) = rest.split_once(' ')?;
            (Value::Number(number(value)?), kind)
        }
    };
    Some(Item::Const { path: path.into(), kind: kind.into(), value })
}

/// A line that belongs to the item above it.
fn parse_detail(item: &mut Item, detail: &str) -> Option<()> {
    match item {
        Item::Numbers { values, .. } => {
            let (name, value) = detail.split_once(' ')?;
            values.push((name.into(), number(value)?));
        }
        Item::Struct(found) => match detail.split_once(": ") {
            Some((at, line)) if usize::from_str_radix(at, 16).ok() == Some(found.image.len()) => {
                found.image.extend(bytes(line)?);
            }
            _ => {
                let mut words = detail.splitn(4, ' ');
                let (name, offset, size) = (words.next()?, words.next()?, words.next()?);
                let (offset, size) = (offset.parse().ok()?, size.parse().ok()?);
                found.fields.push(Field { name: name.into(), kind: words.next()?.into(), offset, size });
            }
        },
        Item::Const { .. } | Item::Packing { .. } => return None,
    }
    Some(())
}

fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// The opposite of [`hex`].
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    text.split(' ').map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}
