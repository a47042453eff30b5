//! Disks of a daemon: what it may see, what its end and its guests' ends cost.

mod guest;

use guest::{Leash, folder, pvkit, send, wait_for_end, wait_for_line};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

/// Bytes of the guest's main memory and of its window, which no other mapping has.
const MEMORY: &str = "96M";
const WINDOW: &str = "34M";
const WINDOW_BYTES: u64 = 34 << 20;

/// A daemon with `disks`, listening in `folder`. Its standard error is for the caller.
fn daemon(folder: &Path, disks: &[String]) -> (Leash, PathBuf) {
    let socket = folder.join("backend.sock");
    let mut command = pvkit(&["backend", "--socket"]);
    command.arg(&socket);
    if !rustix::process::geteuid().is_root() {
        // Locked down it is not dumpable, and only root may look at it.
        command.args(["--sandbox", "off"]);
    }
    for disk in disks {
        command.args(["--disk", disk]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map(Leash).unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("serving"), "{line}");
    (child, socket)
}

fn image(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    path
}

fn exported(folder: &Path) -> Vec<String> {
    vec![format!("id=log,path={}", image(folder, "log.img").display())]
}

/// A guest of the machine that `machine` names, with the disk `log` of the backend.
fn run(socket: &Path, machine: &[&str], cmdline: &str) -> std::process::Command {
    let mut command = pvkit(&["run", "--memory", MEMORY, "--window", WINDOW, "--cmdline", cmdline]);
    command.args(["--disk", &format!("backend={},id=log", socket.display())]).args(machine);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn end(mut child: Leash) {
    send(&child, Signal::TERM);
    assert!(wait_for_end(&mut child).success());
}

/// A mapping of a process: where, with which rights, of what.
struct Mapping {
    start: u64,
    end: u64,
    rights: String,
    name: String,
}

fn mappings(process: u32) -> Vec<Mapping> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mapping = |line: &str| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next().unwrap().split_once('-').unwrap();
        let rights = words.next().unwrap().to_owned();
        let name = words.skip(3).collect::<Vec<_>>().join(" ");
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        Mapping { start: number(start), end: number(end), rights, name }
    };
    maps.lines().map(mapping).collect()
}

/// Whether a process has `secret` anywhere in its memory.
fn knows(process: u32, secret: &[u8]) -> bool {
    let mut memory = File::open(format!("/proc/{process}/mem")).unwrap();
    mappings(process).iter().filter(|mapping| mapping.rights.starts_with('r')).any(|mapping| {
        let mut bytes = Vec::new();
        let part = memory
            .seek(SeekFrom::Start(mapping.start))
            .and_then(|_| (&mut memory).take(mapping.end - mapping.start).read_to_end(&mut bytes));
        // Some of the kernel's own pages cannot be read.
        part.is_ok() && bytes.windows(secret.len()).any(|window| window == secret)
    })
}

#[test]
fn the_daemon_maps_the_window_and_nothing_else_of_the_guest() {
    let folder = folder("dd-maps");
    let (backend, socket) = daemon(&folder, &exported(&folder));
    let mut child = run(&socket, &["--machine", "in-process"], "app=wait seconds=60").spawn().map(Leash).unwrap();
    wait_for_line(&mut child, "waiting");
    let seen = mappings(backend.id());
    let shared: Vec<_> = seen.iter().filter(|mapping| mapping.name.contains("memfd")).collect();
    assert_eq!(shared.len(), 1, "{:?}", shared.iter().map(|mapping| &mapping.name).collect::<Vec<_>>());
    assert_eq!((shared[0].end - shared[0].start, shared[0].rights.as_str()), (WINDOW_BYTES, "rw-s"));
    let mut open: Vec<String> = fs::read_dir(format!("/proc/{}/fd", backend.id()))
        .unwrap()
        .flatten()
        .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
        .filter(|name| !name.contains("pipe:") && !name.contains("/dev/null"))
        .map(|name| name.split(&[':', '('][..]).next().unwrap_or_default().trim_start_matches('/').to_owned())
        .collect();
    open.sort();
    open.dedup();
    let image = folder.join("log.img").to_string_lossy().trim_start_matches('/').to_owned();
    let mut known = vec!["anon_inode".to_owned(), "memfd".into(), "socket".into(), image];
    known.sort();
    assert_eq!(open, known, "descriptors of anything else");
    send(&child, Signal::TERM);
    wait_for_end(&mut child);
    assert!(mappings(backend.id()).iter().all(|mapping| !mapping.name.contains("memfd")), "the window stays mapped");
    end(backend);
    fs::remove_dir_all(folder).unwrap();
}

/// A word in the guest's memory beside the window is in the monitor's memory and not in the daemon's; one that the guest wrote
/// to the disk is in the window, so that the search is seen to find.
fn keeps_its_secrets(folder: &Path, machine: &[&str]) {
    let (backend, socket) = daemon(folder, &exported(folder));
    let secret = format!("spell-{}", std::process::id());
    let cmdline = format!("app=wait seconds=60 # {secret}");
    let mut child = run(&socket, machine, &cmdline).spawn().map(Leash).unwrap();
    wait_for_line(&mut child, "waiting");
    assert!(knows(child.id(), secret.as_bytes()), "the search finds nothing at all");
    assert!(!knows(backend.id(), secret.as_bytes()), "the daemon knows the guest's secret");
    send(&child, Signal::TERM);
    wait_for_end(&mut child);
    end(backend);
}

#[test]
fn what_lies_outside_the_window_is_not_the_daemons_to_read() {
    let folder = folder("dd-secret");
    keeps_its_secrets(&folder, &["--machine", "in-process"]);
    if let Some(image) = guest::unikernel() {
        keeps_its_secrets(&folder, &["--kernel", image.to_str().unwrap()]);
    }
    fs::remove_dir_all(folder).unwrap();
}

/// A guest appends to the log, and another run finds what was acknowledged.
fn works(folder: &Path, machine: &[&str]) {
    let (backend, socket) = daemon(folder, &exported(folder));
    for found in [0, 40] {
        let output = run(&socket, machine, "app=log count=40 mode=mix").output().unwrap();
        let seen = text(&output);
        assert!(output.status.success() && seen.contains(&format!("found {found}")), "{seen}");
        assert!(seen.contains(&format!("acked {}", found + 39)), "{seen}");
    }
    end(backend);
    // The backend gave up the right to remove it; a successor takes its place.
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_err(), "somebody listens");
}

#[test]
fn a_guest_works_on_a_disk_of_the_daemon() {
    let folder = folder("dd-works");
    works(&folder, &["--machine", "in-process"]);
    if let Some(image) = guest::unikernel() {
        works(&folder, &["--kernel", image.to_str().unwrap()]);
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_killed_guest_gives_everything_back() {
    let folder = folder("dd-killed-guest");
    let (backend, socket) = daemon(&folder, &exported(&folder));
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", backend.id())).unwrap().count();
    let threads = || fs::read_dir(format!("/proc/{}/task", backend.id())).unwrap().count();
    let before = (descriptors(), threads());
    for _ in 0..5 {
        let mut child = run(&socket, &["--machine", "in-process"], "app=log count=0").spawn().map(Leash).unwrap();
        wait_for_line(&mut child, "acked");
        send(&child, Signal::KILL);
        wait_for_end(&mut child);
    }
    // Another guest gets the disk, once the daemon has seen the end of the last one.
    let deadline = std::time::Instant::now() + guest::PATIENCE;
    loop {
        let output = run(&socket, &["--machine", "in-process"], "app=check").output().unwrap();
        if output.status.success() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{}", text(&output));
    }
    while (descriptors(), threads()) != before {
        assert!(std::time::Instant::now() < deadline, "{before:?} became {:?}", (descriptors(), threads()));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    end(backend);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_operator_sees_whom_the_daemon_serves_and_what_it_did_for_them() {
    let folder = folder("dd-inspect");
    let (backend, socket) = daemon(&folder, &exported(&folder));
    let inspect = |more: &[&str]| {
        let output = pvkit(&["inspect"]).arg(&socket).args(more).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    assert!(inspect(&[]).starts_with("nobody has a device\nconnections: "));
    let mut child = run(&socket, &["--machine", "in-process"], "app=wait seconds=60").spawn().map(Leash).unwrap();
    wait_for_line(&mut child, "waiting");
    let seen = inspect(&[]);
    let who = format!("log BLOCK of built-in guest (process {}), device 1", child.id());
    assert!(seen.contains(&who) && seen.contains(&format!("window {} KiB", WINDOW_BYTES >> 10)), "{seen}");
    let json: serde_json::Value = serde_json::from_str(&inspect(&["--json"])).unwrap();
    assert_eq!((&json["devices"][0]["id"], &json["devices"][0]["window_bytes"]), (&"log".into(), &WINDOW_BYTES.into()));
    send(&child, Signal::KILL);
    wait_for_end(&mut child);
    // What it had is given back a moment later.
    let given_back = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        inspect(&[]).starts_with("nobody has a device\n")
    });
    assert!(given_back);
    // A guest that works is counted while it does.
    let mut child = run(&socket, &["--machine", "in-process"], "app=log count=0").spawn().map(Leash).unwrap();
    wait_for_line(&mut child, "acked");
    let json: serde_json::Value = serde_json::from_str(&inspect(&["--json"])).unwrap();
    let queue = &json["devices"][0]["queues"][0];
    assert!(queue["requests"].as_u64().unwrap() > 0, "{json}");
    drop(child);
    end(backend);
    let output = pvkit(&["inspect"]).arg(&socket).output().unwrap();
    assert!(!output.status.success() && text(&output).contains("no run answers at"), "{}", text(&output));
}

#[test]
fn mistakes_are_named_with_the_remedy() {
    let folder = folder("dd-mistakes");
    let path = image(&folder, "one.img");
    let (backend, socket) = daemon(&folder, &[format!("id=log,path={}", path.display())]);
    let refused = |arguments: &[&str], status: i32, words: &[&str]| {
        let output = pvkit(arguments).output().unwrap();
        let seen = text(&output);
        assert_eq!(output.status.code(), Some(status), "{seen}");
        words.iter().for_each(|word| assert!(seen.contains(word), "{word} in {seen}"));
    };
    let with_disk = |disk: &str| ["run", "--machine", "in-process", "--disk", disk].map(str::to_owned);
    let run_refused = |disk: &str, words: &[&str]| {
        let line = with_disk(disk);
        refused(&line.each_ref().map(String::as_str), 2, words);
    };
    let place = socket.display();
    run_refused("backend=/nonexistent,id=log", &["/nonexistent", "pvkit backend"]);
    run_refused(&format!("backend={place},id=other"), &["no device of this name"]);
    run_refused(&format!("backend={place}"), &["id=NAME"]);
    run_refused(&format!("path={},id=log", path.display()), &["backend=SOCKET"]);
    let mut holder = run(&socket, &["--machine", "in-process"], "app=wait seconds=60").spawn().map(Leash).unwrap();
    wait_for_line(&mut holder, "waiting");
    run_refused(&format!("backend={place},id=log"), &["another guest has this device"]);
    send(&holder, Signal::TERM);
    wait_for_end(&mut holder);
    let other = format!("{}.2", place);
    refused(&["backend", "--socket", &other], 2, &["--disk id=NAME"]);
    refused(&["backend", "--socket", &other, "--disk", path.to_str().unwrap()], 2, &["id=NAME"]);
    let volatile = format!("id=a,path={},cache=volatile", path.display());
    refused(&["backend", "--socket", &other, "--disk", &volatile], 2, &["cache=volatile", "outlives"]);
    refused(&["backend", "--socket", &other, "--disk", "id=a,format=ram,size=1M"], 2, &["format=ram", "outlives"]);
    let twice = image(&folder, "two.img");
    let twice = format!("id=a,path={}", twice.display());
    let third = format!("id=a,path={}", image(&folder, "three.img").display());
    refused(&["backend", "--socket", &other, "--disk", &twice, "--disk", &third], 2, &["two devices are called a"]);
    let text_file = folder.join("text");
    fs::write(&text_file, "text").unwrap();
    refused(&["backend", "--socket", text_file.to_str().unwrap(), "--disk", &twice], 2, &["no socket"]);
    assert_eq!(fs::read(&text_file).unwrap(), b"text");
    refused(&["backend", "--socket", &place.to_string(), "--disk", &twice], 2, &["alive"]);
    end(backend);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_web_server_is_reached_through_the_daemons_network() {
    let folder = folder("dd-web");
    let documents = folder.join("documents.img");
    let made = pvkit(&["document-disk", "--out"]).arg(&documents).env("CARGO_TARGET_DIR", &folder).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    // A free port: taken for a moment, and given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let socket = folder.join("backend.sock");
    let mut command = pvkit(&["backend", "--socket"]);
    command.arg(&socket).args(["--net", &format!("user,id=out,publish=127.0.0.1:{port}:80")]);
    for disk in [
        format!("id=documents,path={},readonly=on", documents.display()),
        format!("id=log,path={}", image(&folder, "log.img").display()),
    ] {
        command.args(["--disk", &disk]);
    }
    let mut backend = command.stderr(Stdio::piped()).spawn().map(Leash).unwrap();
    let mut line = String::new();
    BufReader::new(backend.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("serving 3 devices"), "{line}");
    let of = |id| format!("backend={},id={id}", socket.display());
    let mut run = pvkit(&["run", "--machine", "in-process", "--memory", MEMORY, "--cmdline", "app=web"]);
    run.args(["--disk", &of("documents"), "--disk", &of("log"), "--net", &of("out")]);
    let mut child = run.stdout(Stdio::piped()).spawn().map(Leash).unwrap();
    wait_for_line(&mut child, "web ready");
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /README.md HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("pvkit"), "{answer}");
    send(&child, Signal::TERM);
    assert_eq!(wait_for_end(&mut child).code(), Some(0));
    end(backend);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_service_manager_brings_the_socket_and_hears_when_it_is_served() {
    use std::os::fd::AsRawFd;
    let folder = folder("dd-activated");
    let socket = folder.join("listen.sock");
    let listener = pvkit_driver_domain::PacketSocket::listen(&socket).unwrap();
    let heard = std::os::unix::net::UnixDatagram::bind(folder.join("notify.sock")).unwrap();
    heard.set_read_timeout(Some(guest::PATIENCE)).unwrap();
    // The shell puts the socket where a service manager does, and becomes the backend: so the number of the process fits.
    let script = format!("LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&{}", listener.as_raw_fd());
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
    let mut command = std::process::Command::new("bash");
    command.args(["-c", &script, "bash", guest::PVKIT, "backend", "--disk", &exported(&folder)[0]]);
    let backend = command.env("NOTIFY_SOCKET", folder.join("notify.sock")).spawn().map(Leash).unwrap();
    let mut word = [0; 64];
    let length = heard.recv(&mut word).unwrap();
    assert_eq!(word[..length].trim_ascii_end(), b"READY=1");
    let output = run(&socket, &["--machine", "in-process"], "app=log count=3").output().unwrap();
    assert!(output.status.success() && text(&output).contains("acked 2"), "{}", text(&output));
    end(backend);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_successor_takes_over() {
    let folder = folder("dd-replace");
    let (mut old, socket) = daemon(&folder, &exported(&folder));
    let disk = format!("id=log,path={}", folder.join("log.img").display());
    let mut command = pvkit(&["backend", "--replace", "--disk", &disk, "--socket"]);
    let mut new = command.arg(&socket).stderr(Stdio::piped()).spawn().map(Leash).unwrap();
    let mut line = String::new();
    BufReader::new(new.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("serving"), "{line}");
    assert!(wait_for_end(&mut old).success());
    let output = run(&socket, &["--machine", "in-process"], "app=log count=3").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    end(new);
    fs::remove_dir_all(folder).unwrap();
}
