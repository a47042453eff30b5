//! What bad input gets: a message that names the thing and the remedy, exit status 2, and nothing lost.

mod guest;

use guest::{folder, pvkit};
use pvkit_abi::discovery::{GuestNote, NOTE_NAME, NOTE_TYPE, NoteFlags, NoteGroup};
use std::fs;
use std::mem::offset_of;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

/// A user that owns nothing: what root may do, this one may not.
const NOBODY: u32 = 65534;

/// Runs `pvkit run` and expects a refusal that says all of `words`.
fn refuses(arguments: &[&str], words: &[&str]) {
    let output = pvkit(&["run"]).args(arguments).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
    for word in words {
        assert!(message.contains(word), "{arguments:?}: `{word}` is not in: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
}

/// A kernel that is a file: disks are opened before it is read.
const ANY_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

fn refuses_disk(disk: &str, words: &[&str]) {
    refuses(&["--kernel", ANY_FILE, "--disk", disk], words);
}

#[test]
fn nonsense_sizes_are_named() {
    for size in ["12X", "M", "-5M", "1.5G", "99999999999T", "lots"] {
        refuses(&["--kernel", ANY_FILE, "--memory", size], &[size, "512M"]);
    }
    for cpus in ["0", "65", "-1", "two"] {
        refuses(&["--kernel", ANY_FILE, &format!("--cpus={cpus}")], &[cpus, "--cpus"]);
    }
}

#[test]
fn unusable_memory_sizes_are_named() {
    let Some(tiny) = guest::tiny() else { return };
    for (size, words) in [("0", "memory"), ("1K", "memory"), ("3000001", "memory"), ("1000000G", "memory")] {
        refuses(&["--kernel", tiny.to_str().unwrap(), "--memory", size], &[words]);
    }
}

#[test]
fn disks_that_are_no_disks_are_named_with_the_remedy() {
    let folder = folder("bad-disks");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    fs::write(path("odd.img"), [0; 1000]).unwrap();
    fs::write(path("empty.img"), []).unwrap();
    refuses_disk(&path("missing.img"), &["missing.img", "does not exist", "truncate"]);
    refuses_disk(&path("odd.img"), &["odd.img", "1000", "512", "truncate -s 1024"]);
    refuses_disk(&path("empty.img"), &["empty.img", "truncate"]);
    refuses_disk(folder.to_str().unwrap(), &["bad-disks", "neither a regular file nor a block device"]);
    refuses_disk("path=a,format=qcow2", &["format=qcow2", "raw, null, ram", "qemu-img convert"]);
    refuses_disk("path=a,format=", &["format=", "raw, null, ram"]);
    refuses_disk("a.img,readonly", &["`readonly`", "key=value"]);
    refuses_disk("format=ram,size=64T", &["RAM disk", "image file"]);
    assert_eq!(fs::read(path("odd.img")).unwrap(), [0; 1000], "a refused image is left alone");
    fs::remove_dir_all(folder).unwrap();
}

fn refuses_net(net: &str, words: &[&str]) {
    refuses(&["--kernel", ANY_FILE, "--net", net], words);
}

#[test]
fn networks_that_cannot_be_had_are_named_with_the_remedy() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    refuses_net(&format!("user,publish={port}:80"), &["127.0.0.1", &port.to_string(), "taken", "another port"]);
    refuses(&["--kernel", ANY_FILE, "--publish", &format!("{port}:80")], &[&port.to_string(), "taken"]);
    refuses(&["--kernel", ANY_FILE, "--net", "none", "--publish", "0:80"], &["--publish", "--net user"]);
    refuses(&["--kernel", ANY_FILE, "--publish", "80"], &["publish=80", "8080:80"]);
    refuses_net("user,publish=192.0.2.1:0:80", &["192.0.2.1", "127.0.0.1"]);
    refuses_net("tap=pvkit-none", &["pvkit-none", "ip tuntap add"]);
    refuses_net("tap=much-too-long-a-name", &["much-too-long-a-name", "1 to 15"]);
    refuses_net("fd=0", &["TAP"]);
    refuses_net("fd=4095", &["fd=4095", "tap=NAME"]);
    refuses_net("bridge", &["`bridge`", "user, tap=NAME, fd=N, passt=SOCKET, backend=SOCKET, none"]);
    refuses_net("user,mac=01:00:5e:00:00:01", &["mac=01:00:5e", "even"]);
    refuses_net("user,mtu=100000", &["mtu=100000", "9000"]);
    refuses_net("user,mtu=68", &["68", "576"]);
}

#[test]
fn a_privileged_port_of_a_user_without_rights_is_named() {
    let Some(free) = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok() else { return };
    if free.trim().parse::<u16>().is_ok_and(|first| first <= 1) {
        return guest::skip("privileged ports", "this host has none");
    }
    let answer = as_nobody(&["run", "--kernel", "/proc/self/exe", "--publish", "1:80"]);
    if let Some((code, message)) = answer {
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains("127.0.0.1:1") && message.contains("1024"), "{message}");
    }
}

#[test]
fn other_words_are_named() {
    refuses(&[], &["no guest image", "--kernel"]);
    refuses(&["--kernel", "/nonexistent/guest"], &["/nonexistent/guest", "check the path"]);
    refuses(&["--kernel", ANY_FILE, "--console", "tty"], &["`tty`", "file=PATH"]);
    refuses(&["--kernel", ANY_FILE, "--console", "file=/nonexistent/x"], &["/nonexistent/x", "writable"]);
    refuses(&["--kernel", ANY_FILE, "--cpl", "1"], &["`1`", "0 or 3"]);
    refuses(&["--kernel", ANY_FILE, "--frobnicate"], &["--frobnicate"]);
    refuses(&["--kernel", ANY_FILE, "--machine", "in-process"], &["Cargo.toml", "in-process"]);
}

#[test]
fn an_image_locked_by_another_guest_is_refused_by_name() {
    let Some(tiny) = guest::tiny() else { return };
    let folder = folder("locked");
    let image = folder.join("disk.img");
    fs::write(&image, [0; 4096]).unwrap();
    let disk = image.to_str().unwrap();
    let kernel = tiny.to_str().unwrap();
    let mut first = pvkit(&["run", "--kernel", kernel, "--cmdline", "spin", "--disk", disk])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    guest::wait_for_line(&mut first, "hello");
    refuses(&["--kernel", kernel, "--cmdline", "hello", "--disk", disk], &["disk.img", "in use", "readonly=on"]);
    let both = format!("{disk},readonly=on");
    refuses(&["--kernel", kernel, "--cmdline", "hello", "--disk", &both], &["disk.img", "being written"]);
    first.kill().unwrap();
    first.wait().unwrap();
    let again = pvkit(&["run", "--kernel", kernel, "--cmdline", "hello", "--disk", disk]).output().unwrap();
    assert!(again.status.success(), "the lock went with its holder: {}", String::from_utf8_lossy(&again.stderr));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn files_that_are_no_guests_are_named() {
    if guest::tiny().is_none() {
        return;
    }
    let folder = folder("no-guests");
    let path = folder.join("image");
    let name = path.to_str().unwrap();
    for (bytes, words) in [
        (b"#!/bin/sh\n".to_vec(), "not a 64-bit"),
        (elf_without_note(), "no pvkit note"),
        (elf_without_note()[..30].to_vec(), "image"),
    ] {
        fs::write(&path, bytes).unwrap();
        refuses(&["--kernel", name], &[name, words]);
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_image_that_needs_what_the_host_lacks_is_refused_by_name() {
    let Some(tiny) = guest::tiny() else { return };
    let folder = folder("needs-more");
    let path = folder.join("image");
    let name = path.to_str().unwrap();
    let image = fs::read(tiny).unwrap();
    let groups = note_of(&image) + offset_of!(GuestNote, groups);
    let flags = note_of(&image) + offset_of!(GuestNote, flags);
    let cpl3 = u8::try_from(NoteFlags::CPL3.bits()).unwrap();
    for (at, byte, arguments, words) in [
        (groups + offset_of!(NoteGroup, major), 99, &[][..], ["EVENT", "99"]),
        (groups + offset_of!(NoteGroup, features) + 5, 1, &[], ["EVENT", "0x10000000000"]),
        (groups, 0xee, &[], ["0xee", "update pvkit"]),
        (flags + 3, 0x80, &[], ["flags", "0x80"]),
        (flags, cpl3, &["--cpl", "0"], ["CPL 0", "CPL 3"]),
    ] {
        let mut changed = image.clone();
        changed[at] = byte;
        fs::write(&path, changed).unwrap();
        refuses(&[&["--kernel", name, "--cmdline", "hello"], arguments].concat(), &words);
    }
    fs::remove_dir_all(folder).unwrap();
}

/// Where the note's description is in an image: behind sizes, type and the owner's name, padded to eight bytes.
fn note_of(image: &[u8]) -> usize {
    let mut head = Vec::new();
    for word in [NOTE_NAME.len() as u32, size_of::<GuestNote>() as u32, NOTE_TYPE] {
        head.extend(word.to_le_bytes());
    }
    head.extend(NOTE_NAME);
    image.windows(head.len()).position(|window| window == head).unwrap() + 12 + 8
}

/// The header of a fixed-address x86-64 ELF file with one loadable segment at 4 MiB.
fn elf_without_note() -> Vec<u8> {
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0x40_0000_u64, 64, 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0_u64, 0x40_0000, 0x40_0000, 120, 120, 4096] {
        elf.extend(word.to_le_bytes());
    }
    elf
}

#[test]
fn a_guest_that_needs_more_than_it_gets_is_refused() {
    let Some(tiny) = guest::tiny() else { return };
    refuses(&["--kernel", tiny.to_str().unwrap(), "--cpus", "64", "--memory", "2M"], &["memory"]);
}

/// Runs as a user without rights, or answers `None` visibly where that is not possible.
fn as_nobody(arguments: &[&str]) -> Option<(Option<i32>, String)> {
    if !rustix::process::getuid().is_root() {
        guest::skip("root", "only root can become another user");
        return None;
    }
    match pvkit(arguments).uid(NOBODY).gid(NOBODY).current_dir("/").output() {
        Ok(output) => Some((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())),
        Err(error) => {
            guest::skip("other-user", &format!("it cannot start {}: {error}", guest::PVKIT));
            None
        }
    }
}

#[test]
fn a_read_only_image_opened_for_writing_is_named() {
    let image = std::env::temp_dir().join(format!("pvkit-read-only-{}.img", std::process::id()));
    fs::write(&image, [0; 4096]).unwrap();
    fs::set_permissions(&image, fs::Permissions::from_mode(0o444)).unwrap();
    // Any file that nobody can see: the disk is opened first.
    let answer = as_nobody(&["run", "--kernel", "/proc/self/exe", "--disk", image.to_str().unwrap()]);
    fs::remove_file(&image).unwrap();
    if let Some((code, message)) = answer {
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains("cannot be opened for writing") && message.contains("readonly=on"), "{message}");
    }
}

#[test]
fn no_permission_on_kvm_says_how_to_get_it() {
    let Some(tiny) = guest::tiny() else { return };
    if fs::metadata("/dev/kvm").is_ok_and(|kvm| kvm.permissions().mode() & 0o006 == 0o006) {
        guest::skip("kvm-permission", "everyone may open /dev/kvm here");
        return;
    }
    let copy = std::env::temp_dir().join(format!("pvkit-tiny-{}", std::process::id()));
    fs::copy(tiny, &copy).unwrap();
    let answer = as_nobody(&["run", "--kernel", copy.to_str().unwrap(), "--cmdline", "hello"]);
    fs::remove_file(&copy).unwrap();
    if let Some((code, message)) = answer {
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains("/dev/kvm") && message.contains("usermod -aG kvm"), "{message}");
    }
}

#[test]
fn without_arguments_it_prints_its_help() {
    let output = pvkit(&[]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("Usage: pvkit") && text.contains("demo"), "{text}");
    assert!(!Path::new("demo").exists());
}
