//! A network card of a daemon that is killed under traffic: for the guest and its peers that is latency.

mod guest;

use guest::{Leash, PATIENCE, folder, pvkit, send, skip, wait_for_end, wait_for_line};
use rustix::process::Signal;
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Set in the process that has a network of its own.
const MARK: &str = "PVKIT_TEST_OWN_NETWORK";

/// Runs `body` in a network namespace of its own: the same test again, in another process.
fn in_own_network(test: &str, body: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        return body();
    }
    let possible = Command::new("unshare").args(["--net", "ip", "-V"]).output().is_ok_and(|run| run.status.success());
    if !possible || std::fs::File::options().write(true).open("/dev/net/tun").is_err() {
        return skip("tap", "needs root, unshare, ip and /dev/net/tun");
    }
    let mut command = Command::new("unshare");
    command.arg("--net").arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]).env(MARK, "1");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "in a network of its own:\n{text}");
    text.lines().filter(|line| line.contains(" kills: ")).for_each(|line| println!("{line}"));
}

fn ip(words: &str) {
    assert!(Command::new("ip").args(words.split(' ')).status().unwrap().success(), "ip {words}");
}

/// A daemon that serves.
fn daemon(socket: &Path, devices: &[String]) -> Leash {
    let mut command = pvkit(&["backend", "--socket"]);
    command.arg(socket).args(devices).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map(Leash).unwrap();
    let mut lines = BufReader::new(child.stderr.as_mut().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("serving")), "it ended before it served");
    child
}

fn killed_and_replaced(backend: &mut Leash, socket: &Path, devices: &[String]) {
    send(backend, Signal::KILL);
    wait_for_end(backend);
    *backend = daemon(socket, devices);
}

/// `PVKIT_KILLS` for the long form.
fn kills(few: u32) -> u32 {
    std::env::var("PVKIT_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The guest's digest of what was sent to it.
fn answer(stream: &mut TcpStream) -> [u8; 32] {
    let mut digest = [0; 32];
    stream.shutdown(Shutdown::Write).unwrap();
    stream.read_exact(&mut digest).unwrap();
    digest
}

fn stream_survives(folder: &Path, kills: u32) {
    ip("tuntap add dev pv0 mode tap");
    ip("link set pv0 up");
    ip("addr add 10.8.0.1/24 dev pv0");
    let (socket, stats, devices) =
        (folder.join("backend.sock"), folder.join("stats"), ["--net", "tap,id=lan"].map(str::to_owned));
    let mut backend = daemon(&socket, &devices);
    let mut run = pvkit(&["run", "--machine", "in-process", "--cmdline", "app=flow address=10.8.0.2/24"]);
    run.args(["--net", &format!("backend={},id=lan,tap=pv0", socket.display())]);
    run.args(["--stats=json", "--stats-file"]).arg(&stats);
    let mut child = run.stdout(Stdio::piped()).spawn().map(Leash).unwrap();
    wait_for_line(&mut child, "flow ready");
    let to = SocketAddr::from(([10, 8, 0, 2], 7000));
    let (ended, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (ends, sends) = (Arc::clone(&ended), Arc::clone(&sent));
    // One connection from before the first kill until after the last.
    let stream = std::thread::spawn(move || {
        let (mut stream, mut hash, mut word) = (connect(to).unwrap(), Sha256::new(), 0_u64);
        while !ends.load(Ordering::SeqCst) {
            let chunk: Vec<u8> = (word..word + 2048).flat_map(|word| (word * 0x9e37_79b9 + 1).to_le_bytes()).collect();
            word += 2048;
            stream.write_all(&chunk).unwrap();
            hash.update(&chunk);
            sends.fetch_add(chunk.len() as u64, Ordering::SeqCst);
        }
        assert_eq!(answer(&mut stream), <[u8; 32]>::from(hash.finalize()));
    });
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for kill in 0..=kills {
        // It flows, and somebody new is answered.
        let (before, deadline) = (sent.load(Ordering::SeqCst), Instant::now() + PATIENCE);
        while sent.load(Ordering::SeqCst) < before + (1 << 20) {
            assert!(Instant::now() < deadline && !stream.is_finished(), "nothing flows after {kill} kills");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut new = connect(to).unwrap();
        new.write_all(&kill.to_le_bytes()).unwrap();
        assert_eq!(answer(&mut new), <[u8; 32]>::from(Sha256::digest(kill.to_le_bytes())));
        if kill < kills {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(Duration::from_micros(random >> 33 & 0x3fff));
            killed_and_replaced(&mut backend, &socket, &devices);
        }
    }
    ended.store(true, Ordering::SeqCst);
    stream.join().unwrap();
    send(&child, Signal::TERM);
    let line = wait_for_line(&mut child, "flow ends");
    assert_eq!(wait_for_end(&mut child).code(), Some(0), "{line}");
    let stats: serde_json::Value = serde_json::from_slice(&std::fs::read(stats).unwrap()).unwrap();
    println!("{kills} kills: {} MiB over one connection, {}", sent.load(Ordering::SeqCst) >> 20, line.trim_end());
    assert_eq!(stats["backends"][0]["returns"].as_u64(), Some(kills.into()), "{stats}");
    send(&backend, Signal::TERM);
    assert!(wait_for_end(&mut backend).success());
}

#[test]
fn a_connection_through_a_lent_tap_survives_a_daemon_that_is_killed_again_and_again() {
    in_own_network("a_connection_through_a_lent_tap_survives_a_daemon_that_is_killed_again_and_again", || {
        let folder = folder("dd-net-kills");
        stream_survives(&folder, kills(20));
        std::fs::remove_dir_all(folder).unwrap();
    });
}

/// What the web server says to one request, on a connection of its own. A daemon that is killed takes the connections of its user
/// network with it, and its port for as long as it is away.
fn asked(to: SocketAddr, request: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = connect(to) {
        let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
    }
    answer
}

fn answered(to: SocketAddr, request: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = asked(to, request);
        if answer.starts_with("HTTP/1.1 ") {
            return answer;
        }
        assert!(Instant::now() < deadline, "no answer to {request}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_web_server_whose_network_and_disks_are_killed_again_and_again_goes_on() {
    let folder = folder("dd-web-kills");
    let (documents, log, socket) = (folder.join("documents.img"), folder.join("log.img"), folder.join("backend.sock"));
    let made = pvkit(&["document-disk", "--out"]).arg(&documents).env("CARGO_TARGET_DIR", &folder).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    std::fs::File::create(&log).unwrap().set_len(1 << 20).unwrap();
    // A free port: taken for a moment, and given back.
    let to = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let devices = [
        "--net".to_owned(),
        format!("user,id=out,publish={to}:80"),
        "--disk".to_owned(),
        format!("id=documents,path={},readonly=on", documents.display()),
        "--disk".to_owned(),
        format!("id=log,path={}", log.display()),
    ];
    let mut backend = daemon(&socket, &devices);
    let of = |id| format!("backend={},id={id}", socket.display());
    let mut run = pvkit(&["run", "--machine", "in-process", "--cmdline", "app=web"]);
    run.args(["--disk", &of("documents"), "--disk", &of("log"), "--net", &of("out")]);
    let mut child = run.stdout(Stdio::piped()).spawn().map(Leash).unwrap();
    wait_for_line(&mut child, "web ready");
    let get = "GET /README.md HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n";
    let post = "POST /log HTTP/1.1\r\nHost: guest\r\nConnection: close\r\nContent-Length: 4\r\n\r\nword";
    let (page, kills) = (answered(to, get), kills(20));
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("pvkit"), "{page}");
    let mut acknowledged = 0;
    for _ in 0..kills {
        let traffic = std::thread::spawn(move || [asked(to, get), asked(to, post)]);
        std::thread::sleep(Duration::from_millis(2));
        killed_and_replaced(&mut backend, &socket, &devices);
        let [_, posted] = traffic.join().unwrap();
        acknowledged += u32::from(posted.contains("acked"));
        assert!(answered(to, get) == page);
        let posted = answered(to, post);
        assert!(posted.contains("acked"), "{posted}");
        acknowledged += 1;
    }
    let counted = answered(to, "GET /log HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n");
    let records: u32 = counted.lines().last().and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap();
    assert!(records >= acknowledged, "{records} records, {acknowledged} acknowledged");
    send(&child, Signal::TERM);
    let line = wait_for_line(&mut child, "net reconnected");
    println!("{kills} kills: {records} records, {acknowledged} acknowledged, {}", line.trim_end());
    assert_eq!(wait_for_end(&mut child).code(), Some(0));
    send(&backend, Signal::TERM);
    assert!(wait_for_end(&mut backend).success());
    std::fs::remove_dir_all(folder).unwrap();
}
