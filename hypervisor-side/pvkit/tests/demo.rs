//! The demo on the in-process machine, which is there on every machine: it passes, it can fail, and it leaves nothing.

mod guest;

use guest::{folder, processes_with, pvkit, send, wait_for_end, wait_for_line, wait_for_none_with};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

fn demo(workshop: &Path, arguments: &[&str]) -> Command {
    let mut command = pvkit(&["demo", "--machine", "in-process"]);
    command.args(arguments).env("CARGO_TARGET_DIR", workshop).env("TMPDIR", workshop);
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The files of a finished demo: its products, nothing else.
fn assert_only_products(workshop: &Path) {
    let demo = workshop.join("demo");
    for entry in fs::read_dir(workshop).unwrap().chain(fs::read_dir(demo).unwrap()) {
        let name = entry.unwrap().file_name();
        assert!(name == "demo" || name == "documents.ext4", "{name:?} stays behind");
    }
}

#[test]
fn the_demo_passes_and_names_its_machine_first_and_last() {
    let workshop = folder("demo-passes");
    let output = demo(&workshop, &["--seed", "7"]).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", text(&output));
    let (first, last) = (shown.lines().next().unwrap(), shown.lines().last().unwrap());
    assert!(first.contains("in-process machine"), "{first}");
    assert!(last.contains("passed") && last.contains("in-process machine"), "{last}");
    for part in ["BLOCK.0", "doorbells (", "interrupts (", "exits to user space", "per request", "--seed 7"] {
        assert!(shown.contains(part), "`{part}` is not in: {shown}");
    }
    assert_only_products(&workshop);
    fs::remove_dir_all(workshop).unwrap();
}

#[test]
fn the_ready_made_disk_serves_as_well() {
    let workshop = folder("demo-ready-made");
    let output = demo(&workshop, &["--ready-made"]).output().unwrap();
    assert!(output.status.success() && text(&output).contains("ready-made"), "{}", text(&output));
    fs::remove_dir_all(workshop).unwrap();
}

#[test]
fn a_guest_that_does_not_flush_fails_the_demo() {
    let workshop = folder("demo-noflush");
    let output = demo(&workshop, &["--mutant", "guest-noflush"]).output().unwrap();
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("FAILED") && shown.contains("records were acknowledged"), "{shown}");
    fs::remove_dir_all(workshop).unwrap();
}

#[test]
fn two_demos_at_once_both_pass() {
    let workshop = folder("demo-twice");
    let start = || demo(&workshop, &[]).stdout(Stdio::null()).spawn().unwrap();
    let (mut one, mut two) = (start(), start());
    assert!(wait_for_end(&mut one).success());
    assert!(wait_for_end(&mut two).success());
    assert_only_products(&workshop);
    fs::remove_dir_all(workshop).unwrap();
}

/// A demo that is at work on its log, in an environment by which its processes are known.
fn at_work(workshop: &Path) -> Child {
    let mut child = demo(workshop, &[]).stdout(Stdio::piped()).spawn().unwrap();
    wait_for_line(&mut child, "log: life 1");
    // The demo and its guest; between two lives there is none for a moment.
    while processes_with(&mark(workshop)).len() < 2 {
        assert_eq!(child.try_wait().unwrap(), None, "the demo ended before its last life");
    }
    child
}

/// What all processes of a demo have in their environment.
fn mark(workshop: &Path) -> String {
    format!("CARGO_TARGET_DIR={}", workshop.display())
}

#[test]
fn however_the_demo_ends_no_process_and_no_file_stays() {
    let workshop = folder("demo-ends");
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::TERM, Some(143)), (Signal::KILL, None)] {
        let mut child = at_work(&workshop);
        send(&child, signal);
        assert_eq!(wait_for_end(&mut child).code(), code);
        wait_for_none_with(&mark(&workshop));
        assert_only_products(&workshop);
    }
    let after = demo(&workshop, &[]).output().unwrap();
    assert!(after.status.success(), "a later run is not disturbed: {}", text(&after));
    fs::remove_dir_all(workshop).unwrap();
}

#[test]
fn a_server_that_stays_serves_until_it_is_interrupted() {
    let workshop = folder("demo-stays");
    let mut child = demo(&workshop, &["--stay"]).stdout(Stdio::piped()).spawn().unwrap();
    let line = wait_for_line(&mut child, "serving http://");
    let host: SocketAddr = line.split(['/', ' ']).find_map(|word| word.parse().ok()).unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.write_all(b"GET /README.md HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("# pvkit"), "{answer}");
    send(&child, Signal::INT);
    assert_eq!(wait_for_end(&mut child).code(), Some(0));
    wait_for_none_with(&mark(&workshop));
    assert!(TcpStream::connect(host).is_err(), "the port is still open");
    assert_only_products(&workshop);
    fs::remove_dir_all(workshop).unwrap();
}

#[test]
fn a_port_that_is_taken_is_named() {
    let workshop = folder("demo-port");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = demo(&workshop, &["--port", &port]).output().unwrap();
    let shown = text(&output);
    assert!(!output.status.success() && shown.contains(&format!("127.0.0.1:{port}")), "{shown}");
    fs::remove_dir_all(workshop).unwrap();
}

#[test]
fn a_killed_demo_takes_its_compilers_with_it() {
    if let Err(problem) = pvkit_machine::probe_kvm() {
        return guest::skip("kvm", &format!("no image is built: {problem}"));
    }
    let workshop = folder("demo-build");
    let mut child = pvkit(&["demo", "--machine", "kvm", "--offline"])
        .env("CARGO_TARGET_DIR", &workshop)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_line(&mut child, "guest image: building");
    let deadline = Instant::now() + guest::PATIENCE;
    // The demo, the guard, cargo, and at least one compiler.
    while processes_with(&mark(&workshop)).len() < 4 {
        assert!(Instant::now() < deadline, "no compiler was started: {:?}", processes_with(&mark(&workshop)));
        std::thread::yield_now();
    }
    send(&child, Signal::KILL);
    wait_for_end(&mut child);
    wait_for_none_with(&mark(&workshop));
    fs::remove_dir_all(workshop).unwrap();
}

#[test]
fn the_same_documents_give_the_same_disk() {
    let workshop = folder("demo-same");
    let make = |name: &str| {
        let path = workshop.join(name);
        let mut command = pvkit(&["document-disk", "--out"]);
        let output = command.arg(&path).env("CARGO_TARGET_DIR", &workshop).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        (fs::read(path).unwrap(), text(&output).contains("ready-made"))
    };
    let (one, ready_made) = make("one.img");
    if ready_made {
        guest::skip("mke2fs", "apt-get install e2fsprogs");
    }
    // File times have a resolution: a disk that kept one would differ now.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let (two, _) = make("two.img");
    assert!(one == two, "two disks of the same documents differ");
    fs::remove_dir_all(workshop).unwrap();
}
