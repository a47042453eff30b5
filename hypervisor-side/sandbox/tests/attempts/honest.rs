//! What an honest daemon does: it must go on in every mode.

use crate::scene::{IMAGE, SECRET, Scene};
use crate::{Case, Expect};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::uio::{preadv, pwritev};
use pvkit_sandbox::{HostNetwork, Role};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FallocateFlags, SealFlags, fallocate, fcntl_get_seals};
use rustix::io::{ReadWriteFlags, pwritev2};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

const fn case(name: &'static str, role: Role, act: fn(&mut Scene) -> io::Result<()>) -> Case {
    let (strict, log) = (Expect::Done, Expect::Done);
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

const fn with_network(case: Case) -> Case {
    Case { network: HostNetwork::Kept, ..case }
}

pub const CASES: &[Case] = &[
    case("a_disk_reads_and_writes", Role::Block, disk),
    case("a_disk_discards_and_zeroes", Role::Block, discard),
    case("a_disk_asks_for_its_size", Role::Block, |scene| wanted(scene.image.seek(SeekFrom::End(0))? == IMAGE)),
    case("a_worker_waits_and_is_woken", Role::Block, |scene| wait_on(&scene.doorbell)),
    case("a_worker_allocates_and_locks", Role::Block, |_| allocate_and_lock()),
    case("a_worker_survives_a_panic", Role::Block, |_| survive_a_panic()),
    case("a_worker_prints_and_sleeps", Role::Net, |_| {
        eprintln!("from a worker");
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    }),
    case("a_network_worker_uses_its_connection", Role::Net, use_connection),
    case("a_window_is_mapped_and_shared", Role::Control, map_window),
    case("an_image_is_opened_and_locked", Role::Control, open_image),
    case("a_read_only_image_is_read", Role::Control, |scene| {
        let mut bytes = [1; 16];
        File::open(scene.folder.join("readonly.raw"))?.read_exact_at(&mut bytes, 0)?;
        wanted(bytes == [0; 16])
    }),
    case("a_file_in_a_folder_is_read", Role::Control, |scene| {
        wanted(std::fs::read(scene.folder.join("folder/file"))? == b"readable")
    }),
    case("a_client_is_accepted", Role::Control, accept),
    case("a_descriptor_arrives", Role::Control, receive_descriptor),
    case("a_timer_fires", Role::Control, |_| fire_timer()),
    case("threads_start_and_end", Role::Control, |_| start_threads()),
    case("the_control_thread_survives_a_panic", Role::Control, |_| survive_a_panic()),
    with_network(case("a_guest_connects_to_the_world", Role::UserNet, connect_out)),
    with_network(case("a_guests_datagram_goes_out", Role::UserNet, |_| {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        let sent = socket.send_to(b"datagram", socket.local_addr()?)?;
        let mut bytes = [0; 16];
        wanted(sent == 8 && socket.recv_from(&mut bytes)?.0 == 8)
    })),
];

/// A call that went through must also have done its work.
fn wanted(holds: bool) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other("it was done and is not right")) }
}

fn disk(scene: &mut Scene) -> io::Result<()> {
    let image = &scene.image;
    let (one, two) = ([1_u8; 512], [2_u8; 512]);
    wanted(pwritev(image, &[IoSlice::new(&one), IoSlice::new(&two)], 4096)? == 1024)?;
    // As the backends do it: plain, and durable on return.
    for flags in [ReadWriteFlags::empty(), ReadWriteFlags::DSYNC] {
        wanted(pwritev2(image, &[IoSlice::new(&two)], 4096, flags)? == 512)?;
    }
    image.sync_data()?;
    let (mut first, mut second) = ([0_u8; 512], [0_u8; 512]);
    let mut pieces = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    wanted(preadv(image, &mut pieces, 4096)? == 1024)?;
    wanted(first == two && second == two)
}

fn discard(scene: &mut Scene) -> io::Result<()> {
    for mode in [FallocateFlags::PUNCH_HOLE, FallocateFlags::ZERO_RANGE] {
        match fallocate(&scene.image, mode | FallocateFlags::KEEP_SIZE, 4096, 4096) {
            // The file system's answer, not the filter's.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn wait_on(doorbell: &impl AsFd) -> io::Result<()> {
    let mut polled = [PollFd::new(doorbell, PollFlags::IN)];
    let short = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    wanted(poll(&mut polled, Some(&short))? == 0)?;
    rustix::io::write(doorbell, &7_u64.to_ne_bytes())?;
    wanted(poll(&mut polled, Some(&short))? == 1)?;
    let mut rings = [0; 8];
    rustix::io::read(doorbell, &mut rings)?;
    wanted(u64::from_ne_bytes(rings) == 7)
}

/// Small and large pieces, which come from the heap and from mappings; random keys; a lock with a deadline.
fn allocate_and_lock() -> io::Result<()> {
    let pieces: Vec<Vec<u8>> = (0..24).map(|bits| vec![1; 1 << bits]).collect();
    let mut grown = vec![0_u8; 1 << 20];
    grown.resize(1 << 25, 2);
    let map: HashMap<usize, usize> = pieces.iter().map(Vec::len).zip(0..).collect();
    wanted(map.len() == 24 && grown[1 << 24] == 2)?;
    drop((pieces, grown));
    let (lock, condition) = (Mutex::new(()), Condvar::new());
    let held = lock.lock().map_err(|_| io::Error::other("poisoned"))?;
    let start = Instant::now();
    let (_held, waited) =
        condition.wait_timeout(held, Duration::from_millis(2)).map_err(|_| io::Error::other("poisoned"))?;
    wanted(waited.timed_out() && start.elapsed() >= Duration::from_millis(2))
}

/// The panic hook prints a backtrace, for which it looks at files that it may not see.
fn survive_a_panic() -> io::Result<()> {
    wanted(std::panic::catch_unwind(|| panic!("on purpose")).is_err())
}

fn use_connection(scene: &mut Scene) -> io::Result<()> {
    let client = &mut scene.client;
    client.write_all(b"frame")?;
    wanted(client.write_vectored(&[IoSlice::new(b"more"), IoSlice::new(b"frames")])? == 10)?;
    wanted(rustix::net::send(&*client, b"last", rustix::net::SendFlags::NOSIGNAL)? == 4)?;
    client.shutdown(std::net::Shutdown::Both)?;
    let mut bytes = [0; 4];
    wanted(client.read(&mut bytes)? == 0)?;
    wanted(rustix::net::recv(&*client, &mut bytes[..], RecvFlags::empty())?.1 == 0)
}

/// Also an attempt of `hostile`, on a worker.
pub fn map_window(scene: &mut Scene) -> io::Result<()> {
    let window = scene.window.take().ok_or_else(|| io::Error::other("mapped twice"))?;
    let region = MmapRegion::<()>::from_file(FileOffset::new(window, 0), 1 << 16).map_err(io::Error::other)?;
    let slice = region.get_slice(4096, SECRET.len()).map_err(io::Error::other)?;
    slice.copy_from(SECRET);
    let mut found = [0; SECRET.len()];
    slice.copy_to(&mut found);
    wanted(found == SECRET)
}

fn open_image(scene: &mut Scene) -> io::Result<()> {
    let seals = fcntl_get_seals(scene.window.as_ref().ok_or_else(|| io::Error::other("no window"))?)?;
    wanted(seals == SealFlags::SEAL)?; // what a window without sealing has
    let image = OpenOptions::new().read(true).write(true).open(scene.folder.join("image.raw"))?;
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&image, FcntlArg::F_OFD_SETLK(&whole))?;
    wanted(image.metadata()?.len() == IMAGE)?;
    image.write_all_at(b"mine", 0)
}

fn accept(scene: &mut Scene) -> io::Result<()> {
    let (mut accepted, _) = scene.listener.accept()?;
    accepted.set_read_timeout(Some(Duration::from_secs(5)))?;
    rustix::net::sockopt::socket_peercred(&accepted)?;
    scene.client.write_all(b"offer")?;
    let mut bytes = [0; 5];
    accepted.read_exact(&mut bytes)?;
    wanted(&bytes == b"offer")
}

fn receive_descriptor(scene: &mut Scene) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut buffer = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 16];
    let flags = RecvFlags::CMSG_CLOEXEC;
    wanted(recvmsg(&scene.channel, &mut [IoSliceMut::new(&mut bytes)], &mut buffer, flags)?.bytes == 6)?;
    let arrived = buffer.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    let file = File::from(arrived.ok_or_else(|| io::Error::other("no descriptor"))?);
    file.read_exact_at(&mut bytes, 0)
}

fn fire_timer() -> io::Result<()> {
    use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    let soon = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never, it_value: soon })?;
    let mut times = [0; 8];
    rustix::io::read(&timer, &mut times)?;
    wanted(u64::from_ne_bytes(times) == 1)
}

fn start_threads() -> io::Result<()> {
    let started: Vec<_> = (0..4)
        .map(|number| {
            std::thread::Builder::new().name(format!("queue {number}")).spawn(move || vec![number; 4096].len())
        })
        .collect::<io::Result<_>>()?;
    let ended = started.into_iter().map(|thread| thread.join().unwrap_or(0));
    wanted(ended.sum::<usize>() == 4 * 4096)?;
    wanted(std::thread::available_parallelism()?.get() > 0)
}

fn connect_out(scene: &mut Scene) -> io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", scene.port))?;
    stream.set_nodelay(true)?;
    stream.write_all(b"request")?;
    // A published port.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let _client = TcpStream::connect(listener.local_addr()?)?;
    listener.accept().map(drop)
}
