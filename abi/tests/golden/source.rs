//! The crate's source as text: which names it declares, and their documentation. Values come from the registry.

use crate::facts::Docs;
use crate::registry::MODULES;
use std::path::Path;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Expr, ExprLit, Ident, Item, Lit, Meta, Token, Type, Visibility, braced, parenthesized};

/// Documentation of every public declaration, keyed by path. Functions are left out: they are not facts.
pub fn declarations() -> Docs {
    let mut docs = Docs::new();
    read(&mut docs, "lib", "");
    for module in MODULES {
        read(&mut docs, module, &format!("{module}::"));
    }
    docs
}

fn read(docs: &mut Docs, module: &str, prefix: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(module).with_extension("rs");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    docs.insert(module.to_owned(), doc(&parsed.attrs));
    for item in parsed.items {
        declare(docs, prefix, item);
    }
}

fn declare(docs: &mut Docs, prefix: &str, item: Item) {
    match item {
        Item::Const(found) if matches!(found.vis, Visibility::Public(_)) => {
            docs.insert(format!("{prefix}{}", found.ident), doc(&found.attrs));
        }
        Item::Struct(found) => {
            let name = format!("{prefix}{}", found.ident);
            for field in &found.fields {
                if let Some(ident) = &field.ident {
                    docs.insert(format!("{name}::{ident}"), doc(&field.attrs));
                }
            }
            docs.insert(name, doc(&found.attrs));
        }
        Item::Macro(found) if found.mac.path.is_ident("open_enum") => {
            declare_numbers(docs, prefix, found.mac.parse_body().expect("open_enum! as open.rs declares it"));
        }
        Item::Macro(found) if found.mac.path.segments.last().is_some_and(|last| last.ident == "bitflags") => {
            declare_numbers(docs, prefix, found.mac.parse_body().expect("one bitflags struct per invocation"));
        }
        _ => {}
    }
}

fn declare_numbers(docs: &mut Docs, prefix: &str, numbers: Numbers) {
    let name = format!("{prefix}{}", numbers.ident);
    for (attrs, value) in numbers.values {
        docs.insert(format!("{name}::{value}"), doc(&attrs));
    }
    docs.insert(name, doc(&numbers.attrs));
}

/// The body of an `open_enum!` or a `bitflags!`.
struct Numbers {
    attrs: Vec<Attribute>,
    ident: Ident,
    values: Vec<(Vec<Attribute>, Ident)>,
}

impl Parse for Numbers {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        input.parse::<Visibility>()?;
        input.parse::<Token![struct]>()?;
        let ident = input.parse()?;
        if input.peek(Token![:]) {
            input.parse::<Token![:]>()?;
            input.parse::<Type>()?;
        } else {
            let raw;
            parenthesized!(raw in input);
            raw.parse::<Type>()?;
        }
        let body;
        braced!(body in input);
        let mut values = Vec::new();
        while !body.is_empty() {
            let attrs = body.call(Attribute::parse_outer)?;
            body.parse::<Option<Token![const]>>()?;
            let name = body.parse()?;
            body.parse::<Token![=]>()?;
            body.parse::<Expr>()?;
            if body.parse::<Option<Token![,]>>()?.is_none() {
                body.parse::<Token![;]>()?;
            }
            values.push((attrs, name));
        }
        Ok(Self { attrs, ident, values })
    }
}

/// Doc comment, one line per source line.
fn doc(attrs: &[Attribute]) -> String {
    let lines = attrs.iter().filter_map(|attr| match &attr.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join("\n")
}
