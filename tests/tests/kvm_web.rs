//! A guest that serves the files of a PV disk over a PV network card, through user-mode networking.

use pvkit_backends::disk::RawOptions;
use pvkit_backends::net::user::{Publish, UserNetwork, UserOptions};
use pvkit_backends::net::{Inbox, Steering};
use pvkit_backends::{RamDisk, RawDisk};
use pvkit_machine::{Control, Device, Program};
use pvkit_tests::{Guest, unikernel, unless_kvm};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 15];
/// No step of the test takes longer, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// One exchange: the status line and the body.
fn ask(server: SocketAddr, head: &str, body: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap_or_else(|error| panic!("{error}"));
    let length = body.len();
    write!(stream, "{head} HTTP/1.1\r\nHost: guest\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        .unwrap_or_else(|error| panic!("{error}"));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{error}"));
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer:?}"));
    let status = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    (String::from_utf8_lossy(status).into_owned(), answer.get(end + 4..).unwrap_or_default().to_vec())
}

/// An ext4 image of `folder`; `None` where there is no mke2fs.
fn image(folder: &Path, path: &Path) -> Option<()> {
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d"])
        .arg(folder)
        .arg(path)
        .arg("8M")
        .env("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin")
        .status();
    match made {
        Ok(status) => {
            assert!(status.success(), "mke2fs failed");
            Some(())
        }
        Err(why) => {
            println!("skipped: mke2fs: {why}");
            None
        }
    }
}

fn every_file_is_served_and_records_are_kept(program: Program) {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let (files, disk) = (folder.path().join("files"), folder.path().join("disk.img"));
    std::fs::create_dir(&files).unwrap_or_else(|error| panic!("{error}"));
    let content: Vec<u8> = (0..300_000_u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()).collect();
    std::fs::write(files.join("large.bin"), &content).unwrap_or_else(|error| panic!("{error}"));
    std::fs::write(files.join("small.txt"), b"small\n").unwrap_or_else(|error| panic!("{error}"));
    if image(&files, &disk).is_none() {
        return;
    }
    let inbox = Inbox::new(256).unwrap_or_else(|error| panic!("{error}"));
    let steering = Steering::new(MAC, vec![inbox]);
    let options = UserOptions { publish: vec![Publish::tcp(0, 80)], ..UserOptions::default() };
    let network = UserNetwork::start(options, steering.clone()).unwrap_or_else(|error| panic!("{error}"));
    let server = network.published()[0];
    let log = Arc::new(RamDisk::new(1 << 20).unwrap_or_else(|error| panic!("{error}")));
    let read_only = RawOptions { read_only: true, ..RawOptions::default() };
    let documents = RawDisk::open(&disk, &read_only).unwrap_or_else(|error| panic!("{error}"));
    let guest = Guest::new(program, "app=web")
        .console()
        .disk(Arc::new(documents), "files")
        .disk(log, "log")
        .device(Device::Net { network, steering, mtu: 1500, label: "net".into() });
    let (sink, control) = (guest.sink(), Control::new());
    let operator = control.clone();
    let client = std::thread::spawn(move || {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !sink.text().contains("web ready") {
            std::thread::sleep(Duration::from_millis(5));
        }
        let checked = std::panic::catch_unwind(|| {
            assert_eq!(ask(server, "GET /small.txt", ""), ("HTTP/1.1 200 OK".into(), b"small\n".to_vec()));
            let (status, body) = ask(server, "GET /large.bin", "");
            assert_eq!((status.as_str(), body == content), ("HTTP/1.1 200 OK", true), "{} bytes came", body.len());
            assert!(ask(server, "GET /../etc/passwd", "").0.contains(" 40"), "outside of the disk");
            for record in 0..3 {
                let (status, body) = ask(server, "POST /log", "a record");
                assert!(status.contains("200"), "{status}");
                assert_eq!(String::from_utf8_lossy(&body).trim(), format!("acked {record}"));
            }
        });
        operator.stop();
        checked
    });
    let ran = guest.try_run_with(&control).unwrap_or_else(|error| panic!("{error}"));
    let checked = client.join().unwrap_or_else(|_| panic!("the client panicked"));
    assert!(checked.is_ok(), "console:\n{}\nhost:\n{}\n{}", ran.console, ran.early, ran.report);
    assert_eq!(ran.report.counters.queues.iter().map(|queue| queue.counters.errors).sum::<u64>(), 0, "{}", ran.report);
}

#[test]
fn every_file_is_served_by_a_guest_on_kvm() {
    if unless_kvm() {
        every_file_is_served_and_records_are_kept(Program::Image(unikernel()));
    }
}

#[test]
fn every_file_is_served_by_a_guest_in_this_process() {
    every_file_is_served_and_records_are_kept(Program::InProcess(unikernel_hosted::main));
}
