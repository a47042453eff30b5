//! A guest kernel in C on KVM: built by a C compiler against the static library, it does its work at every level.

use pvkit_backends::RamDisk;
use pvkit_backends::net::user::{Publish, UserNetwork, UserOptions};
use pvkit_backends::net::{Inbox, Steering};
use pvkit_machine::{Device, End, Program};
use pvkit_tests::{Guest, freestanding, unless_kvm};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Builds the image once; `None`, and a line that the lane counts, without a C compiler.
fn image() -> Option<&'static Path> {
    static IMAGE: OnceLock<Option<PathBuf>> = OnceLock::new();
    IMAGE.get_or_init(build).as_deref()
}

fn build() -> Option<PathBuf> {
    if Command::new("cc").arg("--version").output().is_err() {
        println!("skipped: cc: no C compiler");
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let out = root.join("target/c-guest");
    let target = if freestanding() { "x86_64-unknown-none" } else { "x86_64-unknown-linux-gnu" };
    let script = root.join("examples/c-guest/build.sh");
    let status = Command::new("sh").arg(script).arg(&out).arg(root.join("target/guest")).arg(target).status();
    assert!(status.is_ok_and(|status| status.success()), "the C guest could not be built");
    Some(out.join("c-guest"))
}

#[test]
fn c_guest_reads_writes_and_powers_off() {
    if !unless_kvm() {
        return;
    }
    let Some(image) = image() else { return };
    for cpl in if freestanding() { vec![3, 0] } else { vec![3] } {
        let mut content = vec![0; 1 << 20];
        content[..16].copy_from_slice(b"first sixteen!!!");
        let disk = Arc::new(RamDisk::with_content(content));
        let guest = Guest::new(Program::Image(image.into()), "").cpl(cpl).console().disk(disk.clone(), "disk");
        let ran = guest.run();
        ran.expect_success();
        assert_eq!(
            ran.console, "c-guest: the disk begins with first sixteen!!!\nc-guest: end of input\nc-guest: ok\n",
            "{}",
            ran.early
        );
        let content = disk.content();
        let pattern = |i: usize| (i * 7 + i / 512) as u8;
        assert!(content[..16] == *b"first sixteen!!!" && content[16..512].iter().all(|byte| *byte == 0));
        assert!((0..160 * 512).all(|i| content[512 + i] == pattern(i)), "the pattern is on the disk");
        assert!(content[161 * 512..].iter().all(|byte| *byte == 0), "and nothing after it");
    }
}

/// Sends a question until it is answered: datagrams may be lost before the guest's address is known. Each question has
/// a port of its own, where no late answer to the one before can come.
fn ask(address: SocketAddr, question: &str) -> Vec<u8> {
    let socket = client(address);
    let mut answer = [0; 2048];
    for _ in 0..200 {
        socket.send(question.as_bytes()).expect("loopback takes datagrams");
        if let Ok(length) = socket.recv(&mut answer) {
            return answer[..length].to_vec();
        }
    }
    panic!("{question}: no answer");
}

fn client(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    socket.connect(address).expect("loopback");
    socket
}

#[test]
fn c_guest_answers_datagrams_with_what_its_disk_says() {
    if !unless_kvm() {
        return;
    }
    let Some(image) = image() else { return };
    for cpl in if freestanding() { vec![3, 0] } else { vec![3] } {
        let mut content: Vec<u8> = (0..1u32 << 20).map(|i| (i / 512 * 31 + i) as u8).collect();
        content[..16].copy_from_slice(b"first sixteen!!!");
        let disk = Arc::new(RamDisk::with_content(content.clone()));
        let inbox = Inbox::new(64).expect("an inbox");
        let steering = Steering::new([2, 0, 0, 0, 3, 1], vec![inbox]);
        let options = UserOptions { publish: vec![Publish::udp(0, 7070)], ..UserOptions::default() };
        let network = UserNetwork::start(options, steering.clone()).expect("a user network");
        let address = network.published()[0];
        let guest = Guest::new(Program::Image(image.into()), "").cpl(cpl).console().disk(disk, "disk");
        let guest = guest.device(Device::Net { network, steering, mtu: 1500, label: "net".into() });
        let console = guest.sink();
        let asker = std::thread::spawn(move || {
            console.wait_for("answers datagrams");
            // Beyond what the guest itself has written.
            for sector in [0usize, 200, 1000, 2047] {
                let answer = ask(address, &sector.to_string());
                assert!(answer == content[sector * 512..][..512], "sector {sector}: {answer:?}");
            }
            assert_eq!(ask(address, "2048"), b"the request reaches beyond the end of the disk");
            assert_eq!(ask(address, "end"), b"!");
        });
        let ran = guest.run();
        asker.join().unwrap_or_else(|_| panic!("console:\n{}\nhost:\n{}", ran.console, ran.early));
        ran.expect_success();
        assert!(
            ran.console.ends_with("c-guest: answers datagrams\nc-guest: end of input\nc-guest: ok\n"),
            "{}",
            ran.console
        );
    }
}

#[test]
fn c_guest_without_a_disk_says_what_is_missing() {
    if !unless_kvm() {
        return;
    }
    let Some(image) = image() else { return };
    // The note says that it cannot do without one; the host refuses it before anything runs.
    let refused = Guest::new(Program::Image(image.into()), "").console().try_run();
    let Err(error) = refused else { panic!("started without its disk") };
    assert!(error.to_string().contains("BLOCK"), "{error}");
}

#[test]
fn c_guest_with_too_small_a_disk_ends_with_its_last_words() {
    if !unless_kvm() {
        return;
    }
    let Some(image) = image() else { return };
    let disk = Arc::new(RamDisk::with_content(vec![0; 512]));
    let ran = Guest::new(Program::Image(image.into()), "").console().disk(disk, "disk").run();
    let End::Crash { message, registers } = &ran.report.end else { panic!("ended with {:?}", ran.report.end) };
    assert_eq!(message, "the disk is too small");
    assert!(registers.contains("rip="), "{registers}");
}
