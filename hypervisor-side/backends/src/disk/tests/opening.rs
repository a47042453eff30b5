//! Images that cannot be opened: what is wrong is named, and so is the way out.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn refused(path: &Path, options: &RawOptions) -> OpenError {
    RawDisk::open(path, options).unwrap_err()
}

/// The message names the image and holds the remedy.
#[track_caller]
fn assert_helps(error: &OpenError, path: &Path, remedy: &str) {
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()) && text.contains(remedy), "{text}");
}

fn read_only() -> RawOptions {
    RawOptions { read_only: true, ..RawOptions::default() }
}

#[test]
fn a_missing_image() {
    let (folder, _) = image(512);
    let path = folder.path().join("nowhere.img");
    let error = refused(&path, &RawOptions::default());
    assert!(matches!(error, OpenError::Missing(_)));
    assert_helps(&error, &path, "truncate -s");
    assert!(!path.exists(), "nothing was made");
}

#[test]
fn things_that_are_no_disks() {
    let (folder, path) = image(512);
    let (fifo, socket) = (folder.path().join("fifo"), folder.path().join("socket"));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [folder.path(), &fifo, &socket, Path::new("/dev/null")] {
        for options in [RawOptions::default(), read_only()] {
            let error = refused(path, &options);
            assert!(matches!(error, OpenError::NotADisk(_)), "{error:?}");
            assert_helps(&error, path, "raw image");
        }
    }
    open(&path);
}

#[test]
fn an_image_of_half_a_block_more() {
    let (_folder, path) = image(4096 + 512);
    let options = RawOptions { block_size: 4096, ..RawOptions::default() };
    let error = refused(&path, &options);
    assert!(matches!(error, OpenError::Misaligned { size: 4608, block_size: 4096, .. }));
    assert_helps(&error, &path, "truncate -s 8192");
    open(&path);
}

#[test]
fn an_empty_image() {
    let (_folder, path) = image(0);
    let error = refused(&path, &RawOptions::default());
    assert!(matches!(error, OpenError::Empty(_)));
    assert_helps(&error, &path, "truncate -s");
}

#[test]
fn block_sizes_that_are_none() {
    let (_folder, path) = image(1 << 20);
    for block_size in [0, 1, 511, 513, 256, 131_072, u32::MAX] {
        let error = refused(&path, &RawOptions { block_size, ..RawOptions::default() });
        assert!(matches!(error, OpenError::BlockSize(size) if size == block_size));
    }
}

#[test]
fn a_writer_excludes_everyone_else_until_it_is_gone() {
    let (_folder, path) = image(512);
    let writer = open(&path);
    let error = refused(&path, &RawOptions::default());
    assert!(matches!(error, OpenError::Locked { read_only: false, .. }));
    assert_helps(&error, &path, "stop that one");
    let error = refused(&path, &read_only());
    assert!(matches!(error, OpenError::Locked { read_only: true, .. }));
    assert_helps(&error, &path, "written by another guest");
    drop(writer);
    open(&path);
}

#[test]
fn readers_share_and_exclude_a_writer() {
    let (_folder, path) = image(512);
    let first = RawDisk::open(&path, &read_only()).unwrap();
    let second = RawDisk::open(&path, &read_only()).unwrap();
    assert!(matches!(refused(&path, &RawOptions::default()), OpenError::Locked { .. }));
    drop(first);
    assert!(matches!(refused(&path, &RawOptions::default()), OpenError::Locked { .. }));
    drop(second);
    open(&path);
}

#[test]
fn a_refused_open_leaves_no_lock() {
    let (_folder, path) = image(4096 + 512);
    refused(&path, &RawOptions { block_size: 4096, ..RawOptions::default() });
    open(&path);
}

/// Runs `test` on a thread whose file rights are those of nobody. The rest of the program keeps its own.
fn as_nobody<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if nix::unistd::geteuid().is_root() {
                nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
            }
            test()
        });
        thread.join().unwrap()
    })
}

#[test]
fn an_image_that_may_only_be_read_is_opened_read_only_or_not_at_all() {
    let (folder, path) = image(512);
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    mode(folder.path(), 0o755);
    mode(&path, 0o444);
    let (error, reader) =
        as_nobody(|| (refused(&path, &RawOptions::default()), RawDisk::open(&path, &read_only()).is_ok()));
    assert!(matches!(error, OpenError::ReadOnlyImage(_)), "{error:?}");
    assert_helps(&error, &path, "readonly=on");
    assert!(reader);

    mode(&path, 0o000);
    let error = as_nobody(|| refused(&path, &RawOptions::default()));
    assert!(matches!(error, OpenError::Denied(_)), "{error:?}");
    assert_helps(&error, &path, "readable for this user");
}

#[test]
fn what_else_goes_wrong_is_told_with_what_was_tried() {
    let (_folder, path) = image(512);
    let path = path.join("below-a-file");
    let error = refused(&path, &RawOptions::default());
    assert!(matches!(error, OpenError::Io { doing: "opening", .. }), "{error:?}");
    assert!(std::error::Error::source(&error).is_some());
}
