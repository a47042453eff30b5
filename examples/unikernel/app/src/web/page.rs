//! The list of files as a page. Names are a disk's, so they may hold anything: escaped as text, encoded in links.

use super::files::Text;
use core::fmt::{self, Write};

/// The beginning of the page; rows follow. What ends a list and a page may be left out (HTML Living Standard, 13.1.2.4).
pub(super) fn begin() -> Text {
    let mut page = Text::default();
    page.line(format_args!(
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>pvkit guest</title>\n\
         <h1>Files on a paravirtual disk</h1>\n\
         <p>Served by a unikernel on pvkit's block and network devices. <a href=\"/log\">/log</a> counts the records that \
         were posted there.</p>\n<table>\n"
    ));
    page
}

/// One file.
pub(super) struct Row<'a> {
    pub(super) path: &'a [u8],
    pub(super) length: u64,
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<tr><td><a href=\"")?;
        for byte in self.path {
            // RFC 3986, 2.3; the rest is encoded.
            match byte {
                b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                    f.write_char(char::from(*byte))?
                }
                other => write!(f, "%{other:02X}")?,
            }
        }
        f.write_str("\">")?;
        for chunk in self.path.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '&' => f.write_str("&amp;")?,
                    '<' => f.write_str("&lt;")?,
                    '>' => f.write_str("&gt;")?,
                    '"' => f.write_str("&quot;")?,
                    '\'' => f.write_str("&#39;")?,
                    other => f.write_char(other)?,
                }
            }
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        writeln!(f, "</a><td>{}", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn names_are_escaped_in_text_and_encoded_in_links() {
        let row = Row { path: b"/a b/<x>&'\"\xff\xc3\xa4", length: 7 }.to_string();
        assert_eq!(
            row,
            "<tr><td><a href=\"/a%20b/%3Cx%3E%26%27%22%FF%C3%A4\">/a b/&lt;x&gt;&amp;&#39;&quot;\u{fffd}\u{e4}</a><td>7\n"
        );
    }
}
