//! The ledger's own tests: what is counted, and how it is judged.

use super::*;

fn row(path: &str, count: usize) -> Row {
    Row { path: path.into(), count, place: "shared memory".into() }
}

fn found(files: &[(&str, &[usize])]) -> Found {
    files.iter().map(|(path, lines)| (PathBuf::from(path), lines.to_vec())).collect()
}

#[test]
fn blocks_functions_impls_and_attributes_are_counted() {
    let text =
        "unsafe fn f() {}\nunsafe impl Send for X {}\nfn g() { unsafe { f() } }\n#[unsafe(no_mangle)]\nfn h() {}\n";
    assert_eq!(unsafe_lines(text), Ok(vec![1, 2, 3, 4]));
}

#[test]
fn macro_bodies_and_global_asm_are_counted() {
    let text = "macro_rules! m { () => { unsafe { f() } } }\nm! { unsafe {} }\nglobal_asm!(\"hlt\");\n";
    assert_eq!(unsafe_lines(text), Ok(vec![1, 2, 3]));
}

#[test]
fn comments_strings_and_lint_names_are_not_counted() {
    let text = "//! unsafe { }\n/* unsafe */\n#![forbid(unsafe_code)]\nconst X: &str = \"unsafe {\"; // unsafe\n";
    assert_eq!(unsafe_lines(text), Ok(vec![]));
}

#[test]
fn a_count_that_rose_fails_and_names_file_and_line() {
    let reason =
        judge(&[row("ring/shared-memory", 1)], &found(&[("ring/shared-memory/src/a.rs", &[3, 9])])).expect_err("rose");
    assert!(reason.contains("ring/shared-memory/src/a.rs: 3, 9"), "{reason}");
}

#[test]
fn a_count_that_fell_passes_with_a_remark() {
    let remarks =
        judge(&[row("ring/shared-memory", 2)], &found(&[("ring/shared-memory/src/a.rs", &[3])])).expect("fell");
    assert!(remarks[0].contains("from 2 to 1"), "{remarks:?}");
}

#[test]
fn unsafe_outside_every_row_fails_and_names_the_file() {
    let reason = judge(&[row("ring/shared-memory", 0)], &found(&[("ring/ring/src/a.rs", &[7])])).expect_err("outside");
    assert!(reason.starts_with("ring/ring/src/a.rs: unsafe on line 7"), "{reason}");
}

#[test]
fn a_folder_whose_name_begins_alike_is_not_covered() {
    assert!(judge(&[row("ring", 5)], &found(&[("ring-lab/a.rs", &[1])])).is_err());
}

#[test]
fn the_longest_row_that_fits_owns_a_file() {
    let rows = [row("machine", 1), row("machine/src/kvm", 1)];
    assert_eq!(judge(&rows, &found(&[("machine/src/kvm/a.rs", &[1]), ("machine/src/b.rs", &[1])])), Ok(vec![]));
    assert!(judge(&rows, &found(&[("machine/src/kvm/a.rs", &[1, 2])])).is_err());
}

#[test]
fn rows_are_read_between_the_marks_only() {
    let text = "| `not/this` | 1 | x |\n<!-- unsafe-ledger -->\n| folder or file | unsafe | place |\n| --- | --- | --- |\n\
                | `ring/shared-memory` | 12 | shared memory | proven by Miri |\n<!-- /unsafe-ledger -->\n| `nor/this` | 2 | y |\n";
    assert_eq!(parse_rows(text), Ok(vec![row("ring/shared-memory", 12)]));
}

#[test]
fn a_row_of_no_named_place_is_refused() {
    let text = "<!-- unsafe-ledger -->\n| `core` | 1 | convenience |\n<!-- /unsafe-ledger -->";
    assert!(parse_rows(text).is_err_and(|reason| reason.contains("convenience")));
}

#[test]
fn a_ledger_without_its_marks_is_refused() {
    assert!(parse_rows("no table here").is_err());
}
