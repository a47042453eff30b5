//! The ABI's facts as plain data: what the golden file holds, and what the header and the C check are made from.

use std::collections::BTreeMap;

/// Everything, in the order of declaration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts(pub Vec<Item>);

/// One declared thing. `path` is `module::Name`, or `Name` in the crate's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Struct(Struct),
    /// An open enumeration or a set of flags: named numbers of one raw type.
    Numbers {
        path: String,
        raw: String,
        values: Vec<(String, u64)>,
    },
    Const {
        path: String,
        kind: String,
        value: Value,
    },
    /// A word packed from its parts: `call` reads the same in Rust and, prefixed, in C.
    Packing {
        call: String,
        arguments: Vec<u64>,
        word: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Struct {
    pub path: String,
    pub size: usize,
    pub fields: Vec<Field>,
    /// The sample's bytes.
    pub image: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    /// `u32`, `version::Version`, `[u64; 4]`.
    pub kind: String,
    pub offset: usize,
    pub size: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Facts {
    pub fn structs(&self) -> impl Iterator<Item = &Struct> {
        self.0.iter().filter_map(|item| match item {
            Item::Struct(found) => Some(found),
            _ => None,
        })
    }

    /// What a field of type `kind` is made of.
    pub fn shape(&self, kind: &str) -> Shape<'_> {
        if let Some((element, count)) = kind.strip_prefix('[').and_then(|k| k.strip_suffix(']')?.rsplit_once("; ")) {
            return Shape::Array(element.to_owned(), count.parse().expect("an array's length is a number"));
        }
        for item in &self.0 {
            match item {
                Item::Struct(found) if found.path == kind => return Shape::Struct(found),
                Item::Numbers { path, raw, .. } if path == kind => return Shape::Integer(raw.clone()),
                _ => {}
            }
        }
        assert!(matches!(kind, "u8" | "u16" | "u32" | "u64" | "i32"), "no C type for {kind}: add it to the registry");
        Shape::Integer(kind.to_owned())
    }
}

/// See [`Facts::shape`].
pub enum Shape<'a> {
    Integer(String),
    Array(String, usize),
    Struct(&'a Struct),
}

/// Documentation by path (`module::Type`, `module::Type::field`, `module::CONST`, `module`).
pub type Docs = BTreeMap<String, String>;
