//! Archives in the `newc` format of cpio: what a kernel unpacks as its first root, and what results come home in.
//!
//! Writing needs no root: a device node is a header like any other. Reading takes what a guest wrote: every length is
//! checked against what is there, so a lie is an error, never a panic.

use std::collections::BTreeMap;
use std::io::{self, Write};

const MAGIC: &[u8] = b"070701";
const HEADER: usize = 110;
const END: &str = "TRAILER!!!";
const FOLDER: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const DEVICE: u32 = 0o020_600;
const FILE: u32 = 0o100_000;
const KIND: u32 = 0o170_000;

/// An archive that is being written.
pub struct Writer<Out> {
    out: Out,
    entries: u32,
}

impl<Out: Write> Writer<Out> {
    /// Into `out`, which is not buffered further.
    pub fn new(out: Out) -> Self {
        Self { out, entries: 0 }
    }

    /// A folder; it must come before what it holds.
    pub fn folder(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, FOLDER, (0, 0), &[])
    }

    /// A regular file with the permissions `mode`.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entry(path, FILE | mode, (0, 0), content)
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, LINK, (0, 0), target.as_bytes())
    }

    /// A character device.
    pub fn device(&mut self, path: &str, number: (u32, u32)) -> io::Result<()> {
        self.entry(path, DEVICE, number, &[])
    }

    /// Writes the end.
    pub fn finish(mut self) -> io::Result<Out> {
        self.entry(END, 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
        let path = path.trim_start_matches('/');
        let size = u32::try_from(content.len()).map_err(|_| io::Error::other(format!("{path}: 4 GiB or more")))?;
        self.entries += 1;
        // inode, mode, uid, gid, links, mtime, size, device of the file system (2), of the node (2), name, checksum.
        let name = u32::try_from(path.len() + 1).map_err(|_| io::Error::other("a name without end"))?;
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name, 0];
        self.out.write_all(MAGIC)?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.padded(HEADER, &[path.as_bytes(), b"\0"].concat())?;
        self.padded(0, content)
    }

    /// `bytes`, and zeroes up to a multiple of four counted from `before` bytes earlier.
    fn padded(&mut self, before: usize, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        let zeroes = padding(before + bytes.len());
        self.out.write_all(&[0; 3][..zeroes])
    }
}

const fn padding(length: usize) -> usize {
    length.next_multiple_of(4) - length
}

/// The regular files of an archive by name, up to its end mark; what stands behind that does not matter.
pub fn files(mut bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut files = BTreeMap::new();
    loop {
        let header = take(&mut bytes, HEADER)?;
        if !header.starts_with(MAGIC) {
            return Err("not a newc archive, or damaged".into());
        }
        let (mode, size, name) = (field(header, 1)?, field(header, 6)?, field(header, 11)?);
        let (name, size) = (name as usize, size as usize);
        let path = String::from_utf8_lossy(take(&mut bytes, name)?).trim_end_matches('\0').to_owned();
        take(&mut bytes, padding(HEADER + name))?;
        if path == END {
            return Ok(files);
        }
        let content = take(&mut bytes, size)?;
        take(&mut bytes, padding(size))?;
        if mode & KIND == FILE {
            files.insert(path.trim_start_matches("./").to_owned(), content.to_vec());
        }
    }
}

fn field(header: &[u8], index: usize) -> Result<u32, String> {
    let start = MAGIC.len() + 8 * index;
    let digits = header.get(start..start + 8).and_then(|digits| std::str::from_utf8(digits).ok());
    let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    number.ok_or_else(|| "a header of the archive is damaged".into())
}

fn take<'all>(bytes: &mut &'all [u8], length: usize) -> Result<&'all [u8], String> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or("the archive ends before its end mark")?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        writer.folder("/etc").expect("written");
        writer.file("/etc/odd", 0o644, b"12345").expect("written");
        writer.link("/etc/link", "odd").expect("written");
        writer.device("/console", (5, 1)).expect("written");
        writer.file("empty", 0o755, b"").expect("written");
        writer.finish().expect("written")
    }

    #[test]
    fn files_come_back_as_they_were_packed() {
        let files = files(&archive()).expect("legal");
        assert_eq!(files.len(), 2, "{files:?}");
        assert_eq!(files["etc/odd"], b"12345");
        assert_eq!(files["empty"], b"");
    }

    #[test]
    fn headers_and_contents_begin_at_multiples_of_four() {
        let archive = archive();
        let starts: Vec<_> = (0..archive.len()).filter(|at| archive[*at..].starts_with(MAGIC)).collect();
        assert_eq!(starts.len(), 6);
        assert!(starts.iter().all(|start| start % 4 == 0), "{starts:?}");
    }

    #[test]
    fn archive_that_is_cut_anywhere_is_an_error() {
        let archive = archive();
        for length in 0..archive.len() - padding(HEADER + END.len() + 1) {
            assert!(files(&archive[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn size_that_lies_is_an_error() {
        let mut archive = archive();
        let size = HEADER + 6 + MAGIC.len() + 8 * 6;
        archive[size..size + 8].copy_from_slice(b"ffffffff");
        assert!(files(&archive).is_err());
    }
}
