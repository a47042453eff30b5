//! The demo's own lines. Nobody listening is no reason to stop: `pvkit demo | head -1` still ends as it should.

use std::fmt::Arguments;
use std::io::{self, Write};

/// Prints one line.
pub fn say(line: Arguments<'_>) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}
