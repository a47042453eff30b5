//! The API socket: a running guest is looked at and spoken to, on the in-process machine and on KVM.

mod guest;

use guest::{folder, pvkit, send, wait_for_end, wait_for_line};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

/// A guest that sleeps for a minute, with a socket in `folder`.
fn start(folder: &Path, machine: &[&str], more: &[&str]) -> (Child, PathBuf) {
    let socket = folder.join("api.sock");
    let mut command = pvkit(&["run", "--cmdline", "app=wait seconds=60", "--api-socket"]);
    let child = command.arg(&socket).args(machine).args(more).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    wait_for_line(&mut child, "waiting");
    wait_until_up(&socket);
    (child, socket)
}

/// The guest says that it is up before its sleep, and the run hears of it a little later.
fn wait_until_up(socket: &Path) {
    let deadline = std::time::Instant::now() + guest::PATIENCE;
    while !ask("ctl", socket, &["heartbeat"]).status.success() {
        assert!(std::time::Instant::now() < deadline, "the guest is not up");
    }
}

fn in_process(folder: &Path, more: &[&str]) -> (Child, PathBuf) {
    start(folder, &["--machine", "in-process"], more)
}

fn ask(word: &str, socket: &Path, more: &[&str]) -> Output {
    pvkit(&[word]).arg(socket).args(more).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn inspected(socket: &Path) -> Value {
    let output = ask("inspect", socket, &["--json"]);
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn is_looked_at_and_spoken_to(folder: &Path, machine: &[&str]) {
    let (mut child, socket) = start(folder, machine, &[]);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let seen = inspected(&socket);
    assert_eq!(seen["services"]["ready"], true, "{seen:#}");
    let classes: Vec<_> = seen["devices"].as_array().unwrap().iter().map(|device| device["class"].clone()).collect();
    assert_eq!(classes, ["CONSOLE", "SERVICES", "ENTROPY"]);
    assert_eq!(seen["devices"][0]["state"], "CONNECTED");
    assert!(seen["counters"]["hypercalls"]["bus_kick"].as_u64().unwrap() > 0, "{seen:#}");
    let shown = text(&ask("inspect", &socket, &[]));
    for part in ["device 1 CONSOLE.0 (console0): CONNECTED", "queue 0: depth", "services ready", "bus: epoch"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    for verb in ["heartbeat", "time-sync", "generation", "freeze", "thaw"] {
        let output = ask("ctl", &socket, &[verb]);
        assert!(output.status.success() && text(&output).contains("done"), "{verb}: {}", text(&output));
    }
    let output = ask("ctl", &socket, &["shutdown"]);
    assert!(output.status.success() && text(&output).contains("accepted"), "{}", text(&output));
    assert_eq!(wait_for_end(&mut child).code(), Some(0));
    assert!(!socket.exists(), "the socket stays behind");
}

#[test]
fn guest_in_this_process_is_looked_at_and_spoken_to() {
    let folder = folder("api-in-process");
    is_looked_at_and_spoken_to(&folder, &["--machine", "in-process"]);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn guest_on_kvm_is_looked_at_and_spoken_to() {
    let Some(image) = guest::unikernel() else { return };
    let folder = folder("api-kvm");
    is_looked_at_and_spoken_to(&folder, &["--kernel", image.to_str().unwrap()]);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn guest_that_restarts_is_booted_again_and_its_socket_stays() {
    let folder = folder("api-reboot");
    let (mut child, socket) =
        in_process(&folder, &["--stats=json", "--stats-file", folder.join("stats").to_str().unwrap()]);
    for _ in 0..2 {
        let before = inspected(&socket);
        assert!(ask("ctl", &socket, &["reboot"]).status.success());
        // The next life has another bus; until it is up there is none.
        wait_until_up(&socket);
        let after = inspected(&socket);
        let names = |seen: &Value| {
            let name = |device: &Value| format!("{} {}", device["class"], device["label"]);
            seen["devices"].as_array().unwrap().iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(names(&after), names(&before), "the same devices");
        let epochs = |seen: &Value| -> Vec<u64> {
            seen["devices"].as_array().unwrap().iter().map(|device| device["epoch"].as_u64().unwrap()).collect()
        };
        assert!(epochs(&after).iter().min() > epochs(&before).iter().max(), "{after:#}");
    }
    send(&child, Signal::TERM);
    assert_eq!(wait_for_end(&mut child).code(), Some(0), "asked to shut down");
    let stats: Value = serde_json::from_slice(&fs::read(folder.join("stats")).unwrap()).unwrap();
    assert_eq!(stats["boots"], 3);
    let (mut child, socket) = in_process(&folder, &["--no-reboot"]);
    assert!(ask("ctl", &socket, &["reboot"]).status.success());
    assert_eq!(wait_for_end(&mut child).code(), Some(0));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn socket_of_a_live_run_is_not_taken_and_that_of_a_killed_one_is() {
    let folder = folder("api-taken");
    let (mut child, socket) = in_process(&folder, &[]);
    let second = pvkit(&["run", "--machine", "in-process", "--api-socket"]).arg(&socket).output().unwrap();
    assert_eq!(second.status.code(), Some(2), "{}", text(&second));
    assert!(text(&second).contains("belongs to a run that is alive"), "{}", text(&second));
    assert!(ask("ctl", &socket, &["heartbeat"]).status.success(), "the first run still answers");
    send(&child, Signal::KILL);
    wait_for_end(&mut child);
    let none = ask("inspect", &socket, &[]);
    assert!(!none.status.success() && text(&none).contains("--api-socket"), "{}", text(&none));
    let (mut child, socket) = in_process(&folder, &[]);
    assert!(ask("inspect", &socket, &[]).status.success());
    send(&child, Signal::INT);
    assert_eq!(wait_for_end(&mut child).code(), Some(0));
    fs::write(&socket, "a file").unwrap();
    let file = pvkit(&["run", "--machine", "in-process", "--api-socket"]).arg(&socket).output().unwrap();
    assert!(file.status.code() == Some(2) && text(&file).contains("no socket"), "{}", text(&file));
    assert_eq!(fs::read(&socket).unwrap(), b"a file");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn client_that_talks_nonsense_gets_an_error_and_harms_nobody() {
    let folder = folder("api-nonsense");
    let (mut child, socket) = in_process(&folder, &[]);
    let mut stream = UnixStream::connect(&socket).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    for question in ["nonsense", "{}", r#"{"api":9,"do":"inspect"}"#, r#"{"api":1,"do":"inspect"}"#] {
        stream.write_all(format!("{question}\n").as_bytes()).unwrap();
        let answer: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
        assert_eq!(answer["error"].is_null(), question.contains("1,"), "{question}: {answer}");
    }
    let long = vec![b'x'; 2 << 20];
    // The run may close the connection before it is all sent.
    let _ = stream.write_all(&long);
    if let Some(Ok(line)) = answers.next() {
        assert!(line.contains("more than"), "{line}");
    }
    let idle: Vec<_> = (0..40).map_while(|_| UnixStream::connect(&socket).ok()).collect();
    drop(idle);
    wait_until_up(&socket);
    send(&child, Signal::TERM);
    assert_eq!(wait_for_end(&mut child).code(), Some(0));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn run_that_answers_nonsense_is_an_error_of_the_client() {
    let folder = folder("api-liar");
    let socket = folder.join("liar.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let liar = std::thread::spawn(move || {
        for answer in ["nonsense\n", "{}\n", "[1]\n", "", "{\"ok\":{}}\n"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    for _ in 0..4 {
        let output = ask("inspect", &socket, &[]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    }
    assert!(ask("inspect", &socket, &[]).status.success(), "what is not there is shown as not there");
    liar.join().unwrap();
    fs::remove_dir_all(folder).unwrap();
}
