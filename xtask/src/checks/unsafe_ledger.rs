//! The unsafe ledger: SAFETY.md says where `unsafe` may stand and how often; it may fall, it may not rise.
//!
//! A row names a folder (or one file) of the tree, its count, and which of the named places it is. A file belongs to the
//! longest row that fits. Counted is the word itself in Rust's token stream, test code and macro bodies included, and each
//! `global_asm!`, which is as unsafe as the word.

use super::sources::rust_files;
use crate::workspace::Workspace;
use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const BEGIN: &str = "<!-- unsafe-ledger -->";
const END: &str = "<!-- /unsafe-ledger -->";
const PLACES: &[&str] = &["shared memory", "KVM and mmap", "host system calls", "guest arch", "C edge"];

/// One row of the ledger.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    path: PathBuf,
    count: usize,
    place: String,
}

/// Lines on which something unsafe stands, by file.
type Found = BTreeMap<PathBuf, Vec<usize>>;

/// Compares the sources with SAFETY.md.
pub fn check(workspace: &Workspace) -> Result<Vec<String>, String> {
    judge(&read_rows(workspace)?, &find(workspace)?)
}

/// The table as it should stand in SAFETY.md now; a file without a row gets its crate's, whose place is to be decided.
pub fn table(workspace: &Workspace) -> Result<String, String> {
    let mut rows = read_rows(workspace).unwrap_or_default();
    let found = find(workspace)?;
    for path in found.keys() {
        if row_of(&rows, path).is_none() {
            rows.push(Row { path: crate_of(workspace, path), count: 0, place: "?".into() });
        }
    }
    let lines = rows.iter().enumerate().map(|(index, row)| {
        let count: usize = files_of(&rows, index, &found).map(|(_, lines)| lines.len()).sum();
        format!("| `{}` | {count} | {} |", row.path.display(), row.place)
    });
    let body = lines.collect::<Vec<_>>().join("\n");
    Ok(format!("{BEGIN}\n| folder or file | unsafe | place |\n| --- | --- | --- |\n{body}\n{END}"))
}

fn find(workspace: &Workspace) -> Result<Found, String> {
    let mut found = Found::new();
    for source in rust_files(&workspace.root)? {
        let lines = unsafe_lines(&source.text).map_err(|error| format!("{}: {error}", source.path.display()))?;
        if !lines.is_empty() {
            found.insert(source.path, lines);
        }
    }
    Ok(found)
}

fn judge(rows: &[Row], found: &Found) -> Result<Vec<String>, String> {
    let mut reasons: Vec<String> = found
        .iter()
        .filter(|(path, _)| row_of(rows, path).is_none())
        .map(|(path, lines)| {
            format!("{}: unsafe on line {} outside the places of SAFETY.md", path.display(), join(lines))
        })
        .collect();
    let mut remarks = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let files: Vec<_> = files_of(rows, index, found).collect();
        let count: usize = files.iter().map(|(_, lines)| lines.len()).sum();
        let path = row.path.display();
        if count > row.count {
            let where_ = files.iter().map(|(path, lines)| format!("\n  {}: {}", path.display(), join(lines)));
            reasons.push(format!(
                "{path}: {count} unsafe, SAFETY.md has {}; a rise needs a page in docs/decisions/ and a new count{}",
                row.count,
                where_.collect::<String>()
            ));
        } else if count < row.count {
            remarks.push(format!(
                "{path}: unsafe fell from {} to {count}; update SAFETY.md (`cargo xtask ledger`)",
                row.count
            ));
        }
    }
    if reasons.is_empty() { Ok(remarks) } else { Err(reasons.join("\n")) }
}

fn crate_of(workspace: &Workspace, path: &Path) -> PathBuf {
    let folders = workspace.packages.iter().map(|package| &package.folder).filter(|folder| path.starts_with(folder));
    folders.max_by_key(|folder| folder.as_os_str().len()).map_or_else(|| path.to_path_buf(), Clone::clone)
}

fn row_of(rows: &[Row], path: &Path) -> Option<usize> {
    let fitting = rows.iter().enumerate().filter(|(_, row)| path.starts_with(&row.path));
    fitting.max_by_key(|(_, row)| row.path.as_os_str().len()).map(|(index, _)| index)
}

fn files_of<'all>(
    rows: &'all [Row],
    index: usize,
    found: &'all Found,
) -> impl Iterator<Item = (&'all PathBuf, &'all Vec<usize>)> {
    found.iter().filter(move |(path, _)| row_of(rows, path) == Some(index))
}

fn join(lines: &[usize]) -> String {
    lines.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

fn read_rows(workspace: &Workspace) -> Result<Vec<Row>, String> {
    let text =
        std::fs::read_to_string(workspace.root.join("SAFETY.md")).map_err(|error| format!("SAFETY.md: {error}"))?;
    parse_rows(&text)
}

fn parse_rows(text: &str) -> Result<Vec<Row>, String> {
    let after = text.split_once(BEGIN).ok_or_else(|| format!("SAFETY.md has no `{BEGIN}`"))?.1;
    let table = after.split_once(END).ok_or_else(|| format!("SAFETY.md has no `{END}`"))?.0;
    table.lines().filter(|line| line.starts_with("| `")).map(parse_row).collect()
}

fn parse_row(line: &str) -> Result<Row, String> {
    let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [path, count, place, ..] = cells[..] else {
        return Err(format!("SAFETY.md: a row needs folder, count and place: {line}"));
    };
    if !PLACES.contains(&place) {
        return Err(format!("SAFETY.md: `{place}` is none of the named places ({}): {line}", PLACES.join(", ")));
    }
    let count = count.parse().map_err(|_| format!("SAFETY.md: `{count}` is not a count: {line}"))?;
    Ok(Row { path: path.trim_matches('`').into(), count, place: place.into() })
}

/// The lines on which `unsafe` or `global_asm!` stands.
fn unsafe_lines(text: &str) -> Result<Vec<usize>, String> {
    let tokens: TokenStream = text.parse().map_err(|error| format!("not Rust: {error}"))?;
    let mut lines = Vec::new();
    walk(tokens, &mut lines);
    Ok(lines)
}

fn walk(tokens: TokenStream, lines: &mut Vec<usize>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => walk(group.stream(), lines),
            TokenTree::Ident(word) => {
                let called = matches!(tokens.peek(), Some(TokenTree::Punct(mark)) if mark.as_char() == '!');
                if word == "unsafe" || called && word == "global_asm" {
                    lines.push(word.span().start().line);
                }
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

#[cfg(test)]
#[path = "unsafe_ledger_tests.rs"]
mod tests;
