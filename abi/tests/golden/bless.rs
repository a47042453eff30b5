//! Compares what was generated with what the repository holds, and rewrites the latter when asked to.

use std::path::Path;

/// Whether files are to be written anew.
pub fn is_asked_for() -> bool {
    std::env::var_os("PVKIT_BLESS").is_some_and(|value| value == "1")
}

/// Checks that the file at `path` (below the crate) is `fresh`; with `PVKIT_BLESS=1` makes it so.
///
/// # Panics
/// If it differs, with the differing lines and `remedy`.
pub fn compare(path: &str, fresh: &str, remedy: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if is_asked_for() {
        std::fs::create_dir_all(file.parent().expect("a file has a folder")).expect("the crate's folder is writable");
        std::fs::write(&file, fresh).expect("the crate's folder is writable");
        return;
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    let difference = difference(&kept, fresh);
    assert!(kept == fresh, "abi/{path} is not what the crate says (- kept, + fresh):\n{difference}\n{remedy}");
}

/// The lines between the common beginning and the common end, at most forty of each side.
pub fn difference(kept: &str, fresh: &str) -> String {
    let (kept, fresh): (Vec<_>, Vec<_>) = (kept.lines().collect(), fresh.lines().collect());
    let head = kept.iter().zip(&fresh).take_while(|(a, b)| a == b).count();
    let most = kept.len().min(fresh.len()) - head;
    let tail = kept.iter().rev().zip(fresh.iter().rev()).take(most).take_while(|(a, b)| a == b).count();
    let mut text = format!("@@ line {} @@\n", head + 1);
    for (sign, lines) in [('-', &kept[head..kept.len() - tail]), ('+', &fresh[head..fresh.len() - tail])] {
        for line in lines.iter().take(40) {
            text += &format!("{sign} {line}\n");
        }
        if lines.len() > 40 {
            text += &format!("{sign} ... {} more lines\n", lines.len() - 40);
        }
    }
    text
}
