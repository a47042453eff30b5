//! A file system with one file, in which a test has its say.

use super::guest::skip;
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyWrite, Request, WriteFlags,
};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

const BYTES: usize = 4 << 20;
/// The image's inode, and how long the kernel may believe what it was told.
const IMAGE: u64 = 2;
const TTL: Duration = Duration::from_secs(60);

type Hook<T> = Box<dyn Fn() -> T + Send + Sync>;

/// The file system.
pub struct OneFile {
    pub content: Mutex<Vec<u8>>,
    /// A write is here and not stored yet.
    pub arrived: Hook<()>,
    /// It is.
    pub stored: Hook<()>,
    /// Whether a sync succeeds.
    pub syncs: Hook<bool>,
}

impl Default for OneFile {
    fn default() -> Self {
        let content = Mutex::new(vec![0; BYTES]);
        Self { content, arrived: Box::new(|| ()), stored: Box::new(|| ()), syncs: Box::new(|| true) }
    }
}

impl OneFile {
    /// Mounts it, if that can be had; where the file is.
    pub fn mount(self, folder: &Path) -> Option<(BackgroundSession, PathBuf)> {
        let place = folder.join("mounted");
        std::fs::create_dir(&place).unwrap();
        // Several threads: what a write waits for holds up nothing else.
        let mut config = Config::default();
        config.n_threads = Some(4);
        match fuser::spawn_mount(self, &place, &config) {
            Ok(session) => Some((session, place.join("disk.img"))),
            Err(error) => {
                skip("fuse", &format!("no file system can be mounted here: {error}"));
                None
            }
        }
    }
}

fn about(inode: u64) -> FileAttr {
    let (kind, size) = if inode == IMAGE { (FileType::RegularFile, BYTES as u64) } else { (FileType::Directory, 0) };
    FileAttr {
        ino: INodeNo(inode),
        size,
        blocks: size / 512,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: 0o700,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        flags: 0,
        blksize: 4096,
    }
}

impl Filesystem for OneFile {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name.to_str() {
            Some("disk.img") => reply.entry(&TTL, &about(IMAGE), Generation(0)),
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &about(inode.into()));
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let content = self.content.lock().unwrap();
        let from = (offset as usize).min(BYTES);
        reply.data(&content[from..(from + size as usize).min(BYTES)]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        (self.arrived)();
        let at = offset as usize;
        self.content.lock().unwrap()[at..at + data.len()].copy_from_slice(data);
        (self.stored)();
        reply.written(data.len() as u32);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        if (self.syncs)() { reply.ok() } else { reply.error(Errno::EIO) }
    }
}
