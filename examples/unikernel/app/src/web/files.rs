//! The files that are served: a door that the tests have a fake of, and the ext4 disk behind it.

use super::page;
use crate::Failure;
use crate::ext4::FileSystem;
use crate::files::list;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;
use ext4_view::{Ext4, Ext4Error, File, FileType, PathBuf};
use pvkit_guest_drivers::platform::Platform;

/// Most bytes of the list of files; what does not fit is served but not listed.
const MAX_INDEX: usize = 256 * 1024;

/// Files by path.
pub(super) trait Files {
    /// An open file.
    type File;
    /// Why a file cannot be read.
    type Error;
    /// One line per file: size, path.
    fn index(&self) -> &[u8];
    /// The same as a page with links.
    fn page(&self) -> &[u8];
    /// Opens a regular file; `None` if there is none. Its length with it.
    fn open(&mut self, path: &[u8]) -> Result<Option<(Self::File, u64)>, Self::Error>;
    /// Reads at `position`, at least a byte; 0 at the end.
    fn read(&mut self, file: &mut Self::File, position: u64, into: &mut [u8]) -> Result<usize, Self::Error>;
}

/// The files of an ext4 disk. They do not change: the disk is the guest's alone and it only reads.
pub(super) struct DiskFiles<'p, P: Platform> {
    disk: FileSystem<'p, P>,
    files: Ext4,
    index: Text,
    page: Text,
    /// Regular files.
    pub(super) count: u64,
}

impl<'p, P: Platform> DiskFiles<'p, P> {
    /// Walks the whole tree once.
    pub(super) fn open(mut disk: FileSystem<'p, P>) -> Result<Self, Failure> {
        let files = disk.load()?;
        let (mut index, mut page, mut count) = (Text::default(), page::begin(), 0);
        let mut directories = vec![PathBuf::new("/")];
        while let Some(directory) = directories.pop() {
            for (path, kind) in list(&mut disk, &files, &directory)? {
                match kind {
                    FileType::Directory => directories.push(path),
                    FileType::Regular => {
                        let length = disk.repeat(|| Ok(files.metadata(&path)?.len()))?;
                        index.line(format_args!("{length:>12} {}\n", path.display()));
                        page.line(format_args!("{}", page::Row { path: path.as_ref(), length }));
                        count += 1;
                    }
                    _ => {}
                }
            }
        }
        Ok(Self { disk, files, index, page, count })
    }
}

impl<P: Platform> Files for DiskFiles<'_, P> {
    type File = File;
    type Error = Failure;

    fn index(&self) -> &[u8] {
        &self.index.0
    }

    fn page(&self) -> &[u8] {
        &self.page.0
    }

    fn open(&mut self, path: &[u8]) -> Result<Option<(File, u64)>, Failure> {
        let files = &self.files;
        match self.disk.repeat(|| files.open(path)) {
            Ok(file) => {
                let length = file.metadata().len();
                Ok(Some((file, length)))
            }
            Err(Failure::FileSystem(error)) if is_absent(&error) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn read(&mut self, file: &mut File, position: u64, into: &mut [u8]) -> Result<usize, Failure> {
        // A read that missed may have moved the file's position.
        self.disk.repeat(|| {
            file.seek_to(position)?;
            file.read_bytes(into)
        })
    }
}

/// Errors that say something of the path and nothing of the disk.
const fn is_absent(error: &Ext4Error) -> bool {
    matches!(
        error,
        Ext4Error::NotFound
            | Ext4Error::NotADirectory
            | Ext4Error::IsADirectory
            | Ext4Error::IsASpecialFile
            | Ext4Error::MalformedPath
            | Ext4Error::PathTooLong
            | Ext4Error::TooManySymlinks
    )
}

/// Text with a bound.
#[derive(Default)]
pub(super) struct Text(Vec<u8>);

impl Text {
    pub(super) fn line(&mut self, text: core::fmt::Arguments<'_>) {
        let before = self.0.len();
        // Writing to a vector cannot fail.
        let _ = self.write_fmt(text);
        if self.0.len() > MAX_INDEX {
            self.0.truncate(before);
        }
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
