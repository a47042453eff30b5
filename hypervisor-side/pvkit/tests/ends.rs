//! How a run ends: the guest's status, its crash, signals; and that nothing stays behind, however it ends.

mod guest;

use guest::{PVKIT, folder, pvkit, send, tiny, wait_for_end, wait_for_line, wait_for_none_with};
use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

#[test]
fn the_guests_power_off_is_success() {
    let Some(tiny) = tiny() else { return };
    let output =
        pvkit(&["run", "--kernel", tiny.to_str().unwrap(), "--cmdline", "hello", "--stats=json"]).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("hello from CPL 3"));
    let stats: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(stats["hypercalls"]["negotiate"], 1, "{stats}");
}

#[test]
fn the_guests_status_is_ours() {
    for (cmdline, code) in [("app=hello", 0), ("app=files disk=7", 1), ("app=nonsense", 2)] {
        let output = pvkit(&["run", "--machine", "in-process", "--cmdline", cmdline]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{cmdline}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn the_console_goes_where_it_is_sent() {
    let folder = folder("console");
    let path = folder.join("console.txt");
    let to_file = format!("file={}", path.display());
    for (console, in_file) in [(to_file.as_str(), true), ("null", false)] {
        let arguments = ["run", "--machine", "in-process", "--cmdline", "app=hello", "--console", console];
        let output = pvkit(&arguments).output().unwrap();
        assert!(output.status.success() && output.stdout.is_empty(), "{console}");
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(kept.contains("negotiated"), in_file, "{kept}");
        let _ = fs::remove_file(&path);
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_piped_in_reaches_the_guest_byte_for_byte() {
    let mut child = pvkit(&["run", "--machine", "in-process", "--cmdline", "app=echo"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Ctrl-a x means something on a terminal only.
    child.stdin.take().unwrap().write_all(b"some \x01x text\n").unwrap();
    wait_for_line(&mut child, "some \x01x text");
    assert!(wait_for_end(&mut child).success(), "the guest sees the end of its input");
}

#[test]
fn a_crash_shows_message_and_registers() {
    let Some(tiny) = tiny() else { return };
    for (how, message) in [("crash", "last words"), ("ud2", "invalid opcode"), ("null", "page fault")] {
        let output = pvkit(&["run", "--kernel", tiny.to_str().unwrap(), "--cmdline", how]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(101), "{text}");
        assert!(text.contains(message) && text.contains("rip="), "{text}");
    }
}

/// A guest that never ends, with a disk of its own.
fn endless(tiny: &Path, folder: &Path) -> Child {
    let image = folder.join("disk.img");
    if !image.exists() {
        fs::write(&image, [0; 4096]).unwrap();
    }
    let mut child = pvkit(&["run", "--kernel", tiny.to_str().unwrap(), "--cmdline", "spin", "--disk"])
        .arg(&image)
        .env("TMPDIR", folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_line(&mut child, "hello");
    child
}

#[test]
fn signals_end_a_run_and_leave_nothing() {
    let Some(tiny) = tiny() else { return };
    let folder = folder("signals");
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::TERM, Some(143)), (Signal::KILL, None)] {
        let mut child = endless(&tiny, &folder);
        send(&child, signal);
        assert_eq!(wait_for_end(&mut child).code(), code);
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["disk.img"], "after {signal:?}");
        // The next round opens the same image for writing: the lock is gone too.
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn two_guests_run_side_by_side() {
    let Some(tiny) = tiny() else { return };
    let (one, two) = (folder("side-one"), folder("side-two"));
    let mut first = endless(&tiny, &one);
    let mut second = endless(&tiny, &two);
    send(&first, Signal::TERM);
    assert_eq!(wait_for_end(&mut first).code(), Some(143));
    assert_eq!(second.try_wait().unwrap(), None, "the other one did not notice");
    send(&second, Signal::TERM);
    assert_eq!(wait_for_end(&mut second).code(), Some(143));
    fs::remove_dir_all(one).unwrap();
    fs::remove_dir_all(two).unwrap();
}

/// Starts `pvkit` from a shell, kills the shell once `wanted` is said, and waits until no process of it is left.
fn dies_with_its_parent(name: &str, script: &str, wanted: &str) {
    let mut parent = Command::new("sh")
        .args(["-c", script])
        .env("PVKIT", PVKIT)
        .env("PVKIT_TEST", name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_line(&mut parent, wanted);
    send(&parent, Signal::KILL);
    wait_for_end(&mut parent);
    wait_for_none_with(&format!("PVKIT_TEST={name}"));
}

#[test]
fn a_guest_dies_with_the_process_that_it_was_bound_to() {
    // A guest that would live for an hour.
    let run = "$PVKIT run --machine in-process --cmdline 'app=wait seconds=3600' --die-with $$";
    dies_with_its_parent("bound-guest", &format!("{run} & wait"), "negotiated");
}

#[test]
fn a_guarded_program_dies_with_all_that_it_started() {
    let program = "sh -c 'sleep 3600 & echo started; sleep 3600'";
    dies_with_its_parent("guarded", &format!("$PVKIT guard --die-with $$ -- {program} & wait"), "started");
}

#[test]
fn an_image_that_grew_is_announced_at_sigusr1() {
    let folder = folder("grown");
    let path = folder.join("disk.img");
    let image = fs::File::create(&path).unwrap();
    image.set_len(1 << 20).unwrap();
    let disk = path.to_str().unwrap();
    let arguments = ["run", "--machine", "in-process", "--cmdline", "app=resize disk=0 seconds=30", "--disk", disk];
    let mut child = pvkit(&arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    wait_for_line(&mut child, "capacity 1048576");
    image.set_len(2 << 20).unwrap();
    send(&child, Signal::USR1);
    wait_for_line(&mut child, "capacity 2097152");
    send(&child, Signal::TERM);
    assert!(!wait_for_end(&mut child).success());
    fs::remove_dir_all(folder).unwrap();
}
