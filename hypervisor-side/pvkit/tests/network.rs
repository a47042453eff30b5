//! A run with a network: what it costs while nothing happens, and what it leaves behind when it is killed.

mod guest;

use guest::{folder, pvkit, send, wait_for_end, wait_for_line};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// After its last piece of work a queue's thread looks once more within a second. Then a minute later.
const SETTLE: Duration = Duration::from_secs(3);
/// How long nothing may wake.
const IDLE: Duration = Duration::from_secs(5);

/// Switches of all threads of a process that they made of their own accord: each stands for a wake-up.
fn wakeups(process: u32) -> Vec<(String, u64)> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let mut counts: Vec<_> = threads
        .flatten()
        .map(|thread| {
            let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default().trim().to_owned();
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            (name, line.and_then(|count| count.trim().parse().ok()).unwrap_or(0))
        })
        .collect();
    counts.sort();
    counts
}

/// Disks for `app=web`; `None` without mke2fs.
fn disks(folder: &Path) -> [String; 2] {
    let (documents, log) = (folder.join("documents.img"), folder.join("log.img"));
    let made = pvkit(&["document-disk", "--out"]).arg(&documents).env("CARGO_TARGET_DIR", folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::File::create(&log).unwrap().set_len(1 << 20).unwrap();
    [format!("path={},readonly=on", documents.display()), format!("path={}", log.display())]
}

/// A web server whose port 80 is `published`.
fn web_server(folder: &Path, machine: &[&str]) -> (Child, SocketAddr) {
    let [documents, log] = disks(folder);
    let published = folder.join("published");
    let mut command = pvkit(&["run", "--cmdline", "app=web", "--memory", "128M", "--net", "user", "--publish", "0:80"]);
    command.args(["--disk", &documents, "--disk", &log]).args(machine).arg("--published-file").arg(&published);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    wait_for_line(&mut child, "web ready");
    let told = fs::read_to_string(published).unwrap();
    (child, told.split_whitespace().find_map(|word| word.parse().ok()).unwrap())
}

fn fetch(host: SocketAddr) -> String {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.write_all(b"GET /README.md HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn idle_guest_wakes_nothing(name: &str, machine: &[&str]) {
    let folder = folder(name);
    let (mut child, host) = web_server(&folder, machine);
    assert!(fetch(host).starts_with("HTTP/1.1 200 OK"));
    std::thread::sleep(SETTLE);
    let before = wakeups(child.id());
    std::thread::sleep(IDLE);
    let after = wakeups(child.id());
    assert_eq!(before, after, "wake-ups while nothing happened");
    assert!(fetch(host).starts_with("HTTP/1.1 200 OK"), "the guest still serves");
    send(&child, Signal::TERM);
    assert_eq!(wait_for_end(&mut child).code(), Some(0));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn idle_guest_on_kvm_wakes_nothing_on_the_host() {
    let Some(image) = guest::unikernel() else { return };
    idle_guest_wakes_nothing("idle-kvm", &["--kernel", image.to_str().unwrap()]);
}

#[test]
fn idle_guest_in_process_wakes_nothing() {
    idle_guest_wakes_nothing("idle-in-process", &["--machine", "in-process"]);
}

#[test]
fn killed_run_leaves_no_port_and_no_process() {
    let folder = folder("net-killed");
    for signal in [Signal::KILL, Signal::TERM, Signal::INT] {
        let (mut child, host) = web_server(&folder, &["--machine", "in-process"]);
        assert!(fetch(host).starts_with("HTTP/1.1 200 OK"));
        send(&child, signal);
        wait_for_end(&mut child);
        assert!(TcpStream::connect(host).is_err(), "the published port is still open after {signal:?}");
        assert!(!Path::new(&format!("/proc/{}", child.id())).exists() || child.try_wait().unwrap().is_some());
    }
    fs::remove_dir_all(folder).unwrap();
}

/// A shell script in a network of its own; what it prints. `None` if that cannot be had here.
fn in_own_network(script: &str) -> Option<String> {
    let possible =
        Command::new("unshare").args(["--net", "ip", "-V"]).output().is_ok_and(|output| output.status.success());
    if !possible || fs::File::options().write(true).open("/dev/net/tun").is_err() {
        guest::skip("tap", "needs root, unshare, ip and /dev/net/tun");
        return None;
    }
    let output = Command::new("unshare").args(["--net", "sh", "-c", script]).output().unwrap();
    Some(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn killed_run_leaves_a_tap_as_it_found_it() {
    let program = env!("CARGO_BIN_EXE_pvkit");
    for signal in ["KILL", "TERM"] {
        let script = format!(
            "ip tuntap add dev pv0 mode tap && ip link set pv0 up\n\
             {program} run --machine in-process --cmdline 'app=wait seconds=60' --net tap=pv0 --console file=/dev/null &\n\
             pid=$!\n\
             n=0; until ip link show pv0 | grep -q LOWER_UP; do n=$((n+1)); [ $n -gt 400 ] && echo never up && exit; sleep 0.05; done\n\
             echo carrier\n\
             kill -{signal} $pid; wait $pid\n\
             ip -o link show | grep -c pv\n\
             ip link show pv0 | grep -q LOWER_UP || echo free"
        );
        let Some(text) = in_own_network(&script) else { return };
        assert!(text.contains("carrier") && text.contains("\n1\n") && text.contains("free"), "{signal}: {text}");
    }
}

#[test]
fn network_mistakes_are_named_with_their_remedy() {
    let folder = folder("net-mistakes");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let nobody = folder.join("nobody.sock");
    let passt = format!("passt={}", nobody.display());
    for (arguments, words) in [
        (vec!["--publish".to_owned(), format!("{port}:80")], vec![format!("127.0.0.1:{port}")]),
        (vec!["--net".into(), "tap=pvkit-none".into()], vec!["pvkit-none".into(), "ip tuntap add".into()]),
        (vec!["--net".into(), passt], vec!["nobody.sock".into(), "passt --socket".into()]),
        (vec!["--net".into(), "user,mtu=9001".into()], vec!["mtu=9001".into(), "68 to 9000".into()]),
        (vec!["--net".into(), "user,mac=01:00:00:00:00:00".into()], vec!["even".into()]),
        (vec!["--net".into(), "fd=999".into()], vec!["fd=999".into(), "not an open descriptor".into()]),
    ] {
        let output = pvkit(&["run", "--machine", "in-process"]).args(&arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(words.iter().all(|word| text.contains(word.as_str())), "{arguments:?}: {text}");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn guest_speaks_through_a_program_behind_a_socket() {
    let folder = folder("net-passt");
    let socket = folder.join("peer.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let net = format!("passt={}", socket.display());
    let mut command = pvkit(&["run", "--machine", "in-process", "--cmdline", "app=flow", "--net", &net]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(guest::PATIENCE)).unwrap();
    // The guest asks for an address: a broadcast of UDP from port 68 to 67.
    let mut length = [0; 4];
    peer.read_exact(&mut length).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    peer.read_exact(&mut frame).unwrap();
    assert_eq!((&frame[..6], &frame[12..14], frame[23]), (&[0xff; 6][..], &[8, 0][..], 17));
    assert_eq!(frame[34..38], [0, 68, 0, 67]);
    send(&child, Signal::TERM);
    assert_eq!(wait_for_end(&mut child).code(), Some(0));
    fs::remove_dir_all(folder).unwrap();
}
