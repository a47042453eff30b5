//! What a taken backend would try.

use crate::scene::{SECRET, Scene};
use crate::{Case, Expect};
use Expect::{Done, DoneOrFails, Fails, Killed};
use libc::{EACCES, ECONNREFUSED, EINVAL, ENETUNREACH, ENOMEM, ENOSPC, EPERM};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use pvkit_sandbox::{HostNetwork, Role};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use vm_memory::MmapRegion;

const DENIED: Expect = Fails(&[EACCES]);
const REFUSED: Expect = Fails(&[EPERM]);

const fn case(
    name: &'static str,
    role: Role,
    strict: Expect,
    log: Expect,
    act: fn(&mut Scene) -> io::Result<()>,
) -> Case {
    Case {
        name,
        role,
        network: HostNetwork::None,
        strict,
        log,
        landlock: 0,
        network_namespace: false,
        ordinary: false,
        lacking: None,
        act,
    }
}

impl Case {
    /// The outcome takes a Landlock of this version.
    const fn by_landlock(self, version: u32) -> Self {
        Self { landlock: version, ..self }
    }

    /// The outcome takes an empty network namespace.
    const fn by_network_namespace(self) -> Self {
        Self { network_namespace: true, ..self }
    }

    /// Root is above it, in any process.
    const fn for_ordinary_users(self) -> Self {
        Self { ordinary: true, ..self }
    }

    /// It may not be possible even without a sandbox.
    const fn lacking(self, why: &'static str) -> Self {
        Self { lacking: Some(why), ..self }
    }
}

/// By what each is held back: "filter" is `Killed` in strict mode and done in log mode; the other parts hold in both.
pub const CASES: &[Case] = &[
    // Files.
    case("open_a_file_outside", Role::Control, DENIED, DENIED, |scene| read_secret(scene)).by_landlock(1),
    case("open_a_file_outside_on_a_worker", Role::Block, DENIED, DENIED, |scene| read_secret(scene)).by_landlock(1),
    case("open_an_image_on_a_worker", Role::Block, DENIED, Done, |scene| {
        File::open(scene.folder.join("image.raw")).map(drop)
    }),
    case("write_to_a_read_only_image", Role::Control, DENIED, DENIED, |scene| {
        OpenOptions::new().write(true).open(scene.folder.join("readonly.raw"))?.write_all_at(b"mine", 0)
    })
    .by_landlock(1),
    case("make_a_file", Role::Control, Killed, DENIED, |scene| {
        File::create_new(scene.folder.join("folder/new")).map(drop)
    })
    .by_landlock(1),
    case("cut_an_image_by_its_descriptor", Role::Control, Killed, Done, |scene| scene.image.set_len(0)),
    case("remove_an_image", Role::Control, DENIED, DENIED, |scene| {
        std::fs::remove_file(scene.folder.join("image.raw"))
    })
    .by_landlock(1),
    case("list_a_folder_outside", Role::Control, DENIED, DENIED, |scene| std::fs::read_dir(&scene.folder).map(drop))
        .by_landlock(1),
    // Connections.
    case("connect_by_tcp", Role::Control, Killed, Fails(&[EACCES, ENETUNREACH, ECONNREFUSED]), connect_tcp)
        .by_landlock(4),
    case("connect_by_tcp_on_a_worker", Role::Block, Killed, Fails(&[EACCES, ENETUNREACH, ECONNREFUSED]), connect_tcp)
        .by_landlock(4),
    case("listen_on_tcp", Role::Control, Killed, DENIED, |_| TcpListener::bind("127.0.0.1:0").map(drop)).by_landlock(4),
    case("send_a_datagram", Role::Control, Killed, Fails(&[ENETUNREACH]), |scene| {
        UdpSocket::bind("0.0.0.0:0")?.send_to(b"secret", ("127.0.0.1", scene.port)).map(drop)
    })
    .by_network_namespace(),
    case("connect_to_a_unix_socket", Role::Control, Killed, Done, |scene| {
        UnixStream::connect(scene.folder.join("parent.sock")).map(drop)
    }),
    case("connect_to_an_abstract_socket", Role::Control, Killed, Fails(&[EPERM, ECONNREFUSED]), |scene| {
        let name = format!("pvkit-sandbox-{}", scene.parent);
        UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?).map(drop)
    })
    .by_landlock(6),
    case("make_a_socket", Role::Block, Killed, Done, |_| UdpSocket::bind("0.0.0.0:0").map(drop)),
    case("make_a_socket_on_a_network_worker", Role::Net, Killed, Done, |_| UdpSocket::bind("0.0.0.0:0").map(drop)),
    case("make_a_netlink_socket", Role::Control, Killed, Done, |_| {
        use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
        let protocol = SockProtocol::NetlinkRoute;
        Ok(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), protocol).map(drop)?)
    }),
    // Other processes.
    case("trace_the_parent", Role::Control, Killed, REFUSED, |scene| {
        nix::sys::ptrace::seize(Pid::from_raw(scene.parent), nix::sys::ptrace::Options::empty())?;
        Ok(nix::sys::ptrace::detach(Pid::from_raw(scene.parent), None).or_else(only_seized)?)
    })
    .by_landlock(1)
    .lacking("this machine lets no process trace its parent"),
    case("read_the_parents_memory", Role::Control, Killed, REFUSED, |scene| {
        use nix::sys::uio::{RemoteIoVec, process_vm_readv};
        let mut found = [0; SECRET.len()];
        let there = [RemoteIoVec { base: scene.address, len: SECRET.len() }];
        process_vm_readv(Pid::from_raw(scene.parent), &mut [IoSliceMut::new(&mut found)], &there)?;
        found_secret(&found)
    })
    .by_landlock(1)
    .lacking("this machine lets no process trace its parent"),
    case("open_the_parents_memory", Role::Control, DENIED, DENIED, |scene| {
        let mut found = [0; SECRET.len()];
        File::open(format!("/proc/{}/mem", scene.parent))?.read_exact_at(&mut found, scene.address as u64)?;
        found_secret(&found)
    })
    .by_landlock(1)
    .lacking("this machine lets no process trace its parent"),
    // The parent is asked to look, at what it may see of its child.
    case("be_looked_into_by_a_peer", Role::Control, DENIED, DENIED, |scene| ask_parent(scene, b"memory"))
        .for_ordinary_users()
        .lacking("this machine lets no process trace its child"),
    case("have_any_right_left", Role::Control, REFUSED, REFUSED, |scene| ask_parent(scene, b"rights")),
    case("signal_the_parent", Role::Control, Killed, REFUSED, |scene| {
        Ok(nix::sys::signal::kill(Pid::from_raw(scene.parent), Signal::SIGURG)?)
    })
    .by_landlock(6),
    case("signal_the_parent_on_a_worker", Role::Block, Killed, REFUSED, |scene| {
        Ok(nix::sys::signal::kill(Pid::from_raw(scene.parent), Signal::SIGURG)?)
    })
    .by_landlock(6),
    // Programs.
    case("run_a_program_in_our_place", Role::Control, Killed, DENIED, |_| {
        Err(Command::new("/bin/echo").arg("tried: done").exec())
    })
    .by_landlock(1),
    case("start_a_program", Role::Control, Killed, DENIED, |_| {
        let status = Command::new("/bin/true").stdin(Stdio::inherit()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
    })
    .by_landlock(1),
    case("start_a_thread_on_a_worker", Role::Block, Killed, Done, |_| {
        std::thread::spawn(|| ()).join().map_err(|_| io::Error::other("the thread panicked"))
    }),
    case("map_memory_that_can_be_run", Role::Control, Killed, Done, |_| map_executable()),
    case("map_memory_that_can_be_run_on_a_worker", Role::Block, Killed, Done, |_| map_executable()),
    case("make_memory_run", Role::Block, Killed, Done, |_| memmap2::MmapMut::map_anon(4096)?.make_exec().map(drop)),
    case("map_a_file_on_a_worker", Role::Block, Killed, Done, crate::honest::map_window),
    // The kernel's other doors.
    case("enter_a_namespace", Role::Control, Killed, Fails(&[EPERM, EINVAL, ENOSPC]), |_| {
        Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)?)
    })
    .lacking("this machine gives no user namespaces"),
    case("mount", Role::Control, Killed, REFUSED, |scene| {
        let place = scene.folder.join("folder");
        nix::mount::mount(Some("none"), &place, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)?;
        Ok(nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH)?)
    })
    .lacking("this user may mount nothing"),
    // Linux 6.18 charges a ring to the limit of locked memory, which is zero; 6.1 does not.
    case("make_a_ring_of_the_kernel", Role::Block, Killed, DoneOrFails(&[ENOMEM]), |_| {
        io_uring::IoUring::new(2).map(drop)
    })
    .lacking("this machine gives no io_uring"),
    case("ask_for_keys", Role::Control, Killed, Done, |_| {
        use linux_keyutils::{KeyRing, KeyRingIdentifier};
        KeyRing::from_special_id(KeyRingIdentifier::Process, true)
            .map(drop)
            .map_err(|_| io::Error::from_raw_os_error(EPERM))
    })
    .lacking("this machine gives no keys"),
    case("become_another_user", Role::Control, Killed, Fails(&[EPERM, EINVAL]), |_| {
        Ok(nix::unistd::setuid(nix::unistd::Uid::from_raw(1))?)
    })
    .lacking("this user cannot become another one"),
    case("become_dumpable_again", Role::Control, Killed, Done, |_| {
        Ok(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?)
    }),
    case("change_a_limit", Role::Control, Killed, Fails(&[EPERM]), |_| {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let most = Rlimit { current: Some(1025), maximum: Some(1025) };
        Ok(setrlimit(Resource::Nofile, most)?)
    }),
];

fn read_secret(scene: &Scene) -> io::Result<()> {
    let mut found = Vec::new();
    File::open(scene.folder.join("secret"))?.read_to_end(&mut found)?;
    found_secret(&found)
}

/// An attempt that seems to work must have worked.
fn found_secret(found: &[u8]) -> io::Result<()> {
    if found == SECRET { Ok(()) } else { Err(io::Error::other("that is not the secret")) }
}

/// The parent's answer to a word of six letters: an error number, 0 for success.
fn ask_parent(scene: &mut Scene, word: &[u8; 6]) -> io::Result<()> {
    scene.stream.write_all(word)?;
    scene.stream.write_all(&std::process::id().to_ne_bytes())?;
    let mut error = [0; 4];
    scene.stream.read_exact(&mut error)?;
    match i32::from_ne_bytes(error) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn connect_tcp(scene: &mut Scene) -> io::Result<()> {
    TcpStream::connect(("127.0.0.1", scene.port)).map(drop)
}

/// A seized process that was not stopped cannot be detached from: it is when we end.
fn only_seized(error: nix::errno::Errno) -> nix::Result<()> {
    if error == nix::errno::Errno::ESRCH { Ok(()) } else { Err(error) }
}

fn map_executable() -> io::Result<()> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    MmapRegion::<()>::build(None, 4096, protection, flags).map(drop).map_err(io::Error::other)
}
