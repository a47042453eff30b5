//! `--disk`: a bare path, or `key=value` pairs with commas. The format is what the user says, never what the bytes say.

use super::size::{Size, SizeError};
use crate::mutant::Faults;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Formats that `format=` takes.
const FORMATS: &str = "raw, null, ram";
/// Keys that a disk takes.
const KEYS: &str = "path, format, readonly, cache, size, block_size, serial, backend, id";

/// One `--disk`, understood but not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOption {
    /// Where its bytes are.
    pub format: DiskFormat,
    /// The guest may not write.
    pub readonly: bool,
    /// What an unflushed write may rely on.
    pub cache: Cache,
    /// Unit of position and length, in bytes.
    pub block_size: u32,
    /// What the guest reads as the serial.
    pub serial: Option<String>,
    /// Its name at a backend.
    pub id: Option<String>,
    /// How a raw image fails, in a build for tests: no key that a user is told of.
    pub faults: Option<Faults>,
}

/// Where a disk's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskFormat {
    /// A file, byte for byte.
    Raw(PathBuf),
    /// Reads zeros, forgets writes.
    Null(Size),
    /// Memory of this process.
    Ram(Size),
    /// A backend's, which listens at this socket.
    Backend(PathBuf),
}

/// What an unflushed write may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Writes go to the file at once; a flush makes them durable.
    Writeback,
    /// Writes stay in memory until a flush or FUA and die with the process: for tests of guests.
    Volatile,
}

/// Why a disk was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskOptionError {
    /// Neither a path nor pairs.
    Empty,
    /// A part without `=` that is not the first.
    NotAPair(String),
    /// No such key.
    UnknownKey(String),
    /// A key given twice.
    Twice(&'static str),
    /// No such format.
    UnknownFormat(String),
    /// The value is not one of the key's.
    BadValue { key: &'static str, value: String, expected: &'static str },
    /// `size=` was not understood.
    Size(SizeError),
    /// `format=raw` without a path.
    NoPath,
    /// A key that the format does not use.
    NotForFormat { key: &'static str, format: &'static str },
    /// `null` or `ram` without a size.
    NoSize(&'static str),
    /// A size that is not a whole number of blocks.
    PartBlock(u64),
    /// A backend's disk without its name.
    NoId,
    /// Faults that cannot be had.
    Faults(String),
}

impl fmt::Display for DiskOptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the disk is empty; write --disk path=FILE"),
            Self::NotAPair(part) => write!(f, "`{part}` is not key=value; a disk takes {KEYS}"),
            Self::UnknownKey(key) => write!(f, "a disk has no key `{key}`; it takes {KEYS}"),
            Self::Twice(key) => write!(f, "`{key}=` is given twice; keep one of them"),
            Self::UnknownFormat(format) => {
                write!(
                    f,
                    "unknown `format={format}`; pvkit knows {FORMATS} (convert others with `qemu-img convert -O raw`)"
                )
            }
            Self::BadValue { key, value, expected } => write!(f, "`{key}={value}` is not one of {expected}"),
            Self::Size(error) => write!(f, "`size=`: {error}"),
            Self::NoPath => write!(f, "a raw disk needs a file; write path=FILE"),
            Self::NotForFormat { key, format } => write!(f, "format={format} does not use `{key}=`; leave it out"),
            Self::NoSize(format) => write!(f, "format={format} needs a size; write size=64M"),
            Self::NoId => write!(f, "a disk of a backend needs its name there; write backend=SOCKET,id=NAME"),
            Self::Faults(why) => write!(f, "`faults=`: {why}"),
            Self::PartBlock(size) => {
                write!(f, "size={size} is 0 or not a multiple of the block size 512; round it up")
            }
        }
    }
}

impl std::error::Error for DiskOptionError {}

/// The pairs as they were given, each at most once.
#[derive(Default)]
struct Pairs {
    path: Option<String>,
    format: Option<String>,
    readonly: Option<String>,
    cache: Option<String>,
    size: Option<String>,
    block_size: Option<String>,
    serial: Option<String>,
    backend: Option<String>,
    id: Option<String>,
    faults: Option<String>,
}

impl Pairs {
    fn split(text: &str) -> Result<Self, DiskOptionError> {
        let mut pairs = Self::default();
        for (index, part) in text.split(',').enumerate() {
            match part.split_once('=') {
                Some((key, value)) => pairs.put(key, value)?,
                None if index == 0 && !part.is_empty() => pairs.path = Some(part.into()),
                None => return Err(DiskOptionError::NotAPair(part.into())),
            }
        }
        Ok(pairs)
    }

    fn put(&mut self, key: &str, value: &str) -> Result<(), DiskOptionError> {
        let (name, field) = match key {
            "path" => ("path", &mut self.path),
            "format" => ("format", &mut self.format),
            "readonly" => ("readonly", &mut self.readonly),
            "cache" => ("cache", &mut self.cache),
            "size" => ("size", &mut self.size),
            "block_size" => ("block_size", &mut self.block_size),
            "serial" => ("serial", &mut self.serial),
            "backend" => ("backend", &mut self.backend),
            "id" => ("id", &mut self.id),
            "faults" => ("faults", &mut self.faults),
            _ => return Err(DiskOptionError::UnknownKey(key.into())),
        };
        match field.replace(value.into()) {
            None => Ok(()),
            Some(_) => Err(DiskOptionError::Twice(name)),
        }
    }

    fn format(&self) -> Result<DiskFormat, DiskOptionError> {
        if let Some(socket) = &self.backend {
            return self.backend(socket);
        }
        let name = match self.format.as_deref().unwrap_or("raw") {
            "raw" => return self.raw(),
            "null" => "null",
            "ram" => "ram",
            other => return Err(DiskOptionError::UnknownFormat(other.into())),
        };
        for (key, value) in [
            ("path", &self.path),
            ("readonly", &self.readonly),
            ("cache", &self.cache),
            ("block_size", &self.block_size),
            ("serial", &self.serial),
            ("faults", &self.faults),
        ] {
            if value.is_some() {
                return Err(DiskOptionError::NotForFormat { key, format: name });
            }
        }
        let text = self.size.as_deref().ok_or(DiskOptionError::NoSize(name))?;
        let size: Size = text.parse().map_err(DiskOptionError::Size)?;
        if size.0 == 0 || !size.0.is_multiple_of(512) {
            return Err(DiskOptionError::PartBlock(size.0));
        }
        Ok(if name == "null" { DiskFormat::Null(size) } else { DiskFormat::Ram(size) })
    }

    /// What the disk is, the backend knows.
    fn backend(&self, socket: &str) -> Result<DiskFormat, DiskOptionError> {
        for (key, value) in [
            ("path", &self.path),
            ("format", &self.format),
            ("readonly", &self.readonly),
            ("cache", &self.cache),
            ("size", &self.size),
            ("block_size", &self.block_size),
            ("serial", &self.serial),
            ("faults", &self.faults),
        ] {
            if value.is_some() {
                return Err(DiskOptionError::NotForFormat { key, format: "backend" });
            }
        }
        if self.id.is_none() || socket.is_empty() {
            return Err(DiskOptionError::NoId);
        }
        Ok(DiskFormat::Backend(socket.into()))
    }

    fn raw(&self) -> Result<DiskFormat, DiskOptionError> {
        if self.size.is_some() {
            return Err(DiskOptionError::NotForFormat { key: "size", format: "raw" });
        }
        match self.path.as_deref() {
            None | Some("") => Err(DiskOptionError::NoPath),
            Some(path) => Ok(DiskFormat::Raw(path.into())),
        }
    }
}

impl FromStr for DiskOption {
    type Err = DiskOptionError;

    fn from_str(text: &str) -> Result<Self, DiskOptionError> {
        if text.is_empty() {
            return Err(DiskOptionError::Empty);
        }
        let pairs = Pairs::split(text)?;
        let block_size = parse_block_size(pairs.block_size.as_deref())?;
        Ok(Self {
            format: pairs.format()?,
            readonly: parse_switch("readonly", pairs.readonly.as_deref())?,
            cache: parse_cache(pairs.cache.as_deref())?,
            block_size,
            serial: parse_serial(pairs.serial)?,
            id: parse_id(pairs.id)?,
            faults: pairs.faults.map(|text| text.parse().map_err(DiskOptionError::Faults)).transpose()?,
        })
    }
}

fn parse_block_size(text: Option<&str>) -> Result<u32, DiskOptionError> {
    match text {
        None | Some("512") => Ok(512),
        Some("4096") => Ok(4096),
        Some(value) => Err(DiskOptionError::BadValue { key: "block_size", value: value.into(), expected: "512, 4096" }),
    }
}

fn parse_switch(key: &'static str, text: Option<&str>) -> Result<bool, DiskOptionError> {
    match text {
        None | Some("off") => Ok(false),
        Some("on") => Ok(true),
        Some(value) => Err(DiskOptionError::BadValue { key, value: value.into(), expected: "on, off" }),
    }
}

fn parse_cache(text: Option<&str>) -> Result<Cache, DiskOptionError> {
    match text {
        None | Some("writeback") => Ok(Cache::Writeback),
        Some("volatile") => Ok(Cache::Volatile),
        Some(value) => {
            Err(DiskOptionError::BadValue { key: "cache", value: value.into(), expected: "writeback, volatile" })
        }
    }
}

fn parse_id(text: Option<String>) -> Result<Option<String>, DiskOptionError> {
    match text {
        Some(value) if !is_id(&value) => {
            Err(DiskOptionError::BadValue { key: "id", value, expected: "1 to 64 letters, digits, `-`, `_` or `.`" })
        }
        other => Ok(other),
    }
}

/// Whether a device can be called so.
pub fn is_id(text: &str) -> bool {
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    (1..=pvkit_driver_domain::protocol::NAME_BYTES).contains(&text.len()) && letters
}

fn parse_serial(text: Option<String>) -> Result<Option<String>, DiskOptionError> {
    match text {
        Some(value) if value.is_empty() || value.len() > pvkit_abi::block::SERIAL_BYTES || !value.is_ascii() => {
            Err(DiskOptionError::BadValue { key: "serial", value, expected: "1 to 32 ASCII characters" })
        }
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_path_is_a_raw_disk() {
        let disk: DiskOption = "some/disk.img".parse().unwrap();
        assert_eq!(disk.format, DiskFormat::Raw("some/disk.img".into()));
        assert_eq!((disk.readonly, disk.cache, disk.block_size), (false, Cache::Writeback, 512));
    }

    #[test]
    fn pairs_are_taken_in_any_order() {
        let disk: DiskOption = "cache=volatile,block_size=4096,readonly=on,path=a.img".parse().unwrap();
        assert_eq!(disk.format, DiskFormat::Raw("a.img".into()));
        assert_eq!((disk.readonly, disk.cache, disk.block_size), (true, Cache::Volatile, 4096));
        let disk: DiskOption = "format=ram,size=2M".parse().unwrap();
        assert_eq!(disk.format, DiskFormat::Ram(Size(2 << 20)));
    }

    #[test]
    fn a_disk_of_a_backend_has_a_socket_and_a_name() {
        let disk: DiskOption = "backend=run/b.sock,id=root".parse().unwrap();
        assert_eq!((disk.format, disk.id.as_deref()), (DiskFormat::Backend("run/b.sock".into()), Some("root")));
    }

    #[test]
    fn each_mistake_is_named_with_its_remedy() {
        for (text, thing, remedy) in [
            ("", "empty", "path=FILE"),
            ("a.img,ro", "`ro`", "readonly"),
            ("path=a,colour=red", "`colour`", "readonly"),
            ("path=a,path=b", "`path=`", "keep one"),
            ("path=a,format=qcow2", "format=qcow2", "raw, null, ram"),
            ("path=a,readonly=maybe", "readonly=maybe", "on, off"),
            ("path=a,cache=lots", "cache=lots", "writeback, volatile"),
            ("path=a,block_size=100", "block_size=100", "512, 4096"),
            ("format=raw", "file", "path=FILE"),
            ("path=", "file", "path=FILE"),
            ("format=null", "format=null", "size=64M"),
            ("format=ram,size=1M,path=x", "`path=`", "leave it out"),
            ("format=null,size=1M,readonly=on", "`readonly=`", "leave it out"),
            ("path=a,size=1M", "`size=`", "leave it out"),
            ("format=ram,size=1000", "size=1000", "multiple of the block size 512"),
            ("format=ram,size=0", "size=0", "round it up"),
            ("format=ram,size=huge", "`huge`", "512M"),
            ("backend=s.sock", "name", "backend=SOCKET,id=NAME"),
            ("backend=s.sock,id=a/b", "id=a/b", "letters"),
            ("backend=s.sock,id=a,path=b", "`path=`", "leave it out"),
            ("format=ram,size=1M,faults=1", "`faults=`", "leave it out"),
            (
                "path=a,faults=x",
                "`faults=`",
                if cfg!(feature = "mutants") { "KIND=PERCENT" } else { "--features mutants" },
            ),
        ] {
            let message = text.parse::<DiskOption>().expect_err(text).to_string();
            assert!(message.contains(thing) && message.contains(remedy), "{text}: {message}");
        }
    }
}
