//! Host system calls that safe wrappers do not offer: vectored I/O on memory that a guest may be writing, waiting for
//! several eventfds, and the controls of TAP interfaces. One of the places with `unsafe` that SAFETY.md names.

#![allow(unsafe_code, reason = "host system calls: one of the five places named in SAFETY.md")]

use pvkit_shared_memory::SharedBytes;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

/// Pieces of one system call. Linux takes up to 1024 (`IOV_MAX`); this many fit a page of stack.
const BATCH: usize = 256;

/// Names for the kernel: pieces of shared memory, the first one without its first `skip` bytes.
struct Vectors {
    list: [libc::iovec; BATCH],
    count: usize,
}

impl Vectors {
    fn new(pieces: &[SharedBytes], skip: usize) -> Self {
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut vectors = Self { list: [empty; BATCH], count: 0 };
        let mut skip = skip;
        for (slot, piece) in vectors.list.iter_mut().zip(pieces) {
            // The callers never skip more than the piece; if they did, its entry would stay empty.
            if let Ok(rest) = piece.part(skip, piece.len().saturating_sub(skip)) {
                *slot = libc::iovec { iov_base: rest.as_ptr().cast(), iov_len: rest.len() };
            }
            skip = 0;
            vectors.count += 1;
        }
        vectors
    }

    fn count(&self) -> libc::c_int {
        self.count as libc::c_int
    }
}

fn offset(position: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(position).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))
}

fn moved(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// One `preadv`: fills some of `into`, less its first `skip` bytes, from `position`. 0 at the end of the file.
pub fn read_at(file: &impl AsFd, position: u64, into: &[SharedBytes], skip: usize) -> io::Result<usize> {
    let (fd, offset, vectors) = (file.as_fd().as_raw_fd(), offset(position)?, Vectors::new(into, skip));
    // SAFETY: the list has `count` initialised entries and lives across the call. Each names memory that is mapped
    // writable while a `SharedBytes` of it exists (`SharedBytes::from_raw`), which `into` does; no Rust reference to
    // it exists, so the kernel is one more party that writes there. The descriptor is open while `file` is borrowed.
    moved(unsafe { libc::preadv(fd, vectors.list.as_ptr(), vectors.count(), offset) })
}

/// One `pwritev2`: stores some of `from`, less its first `skip` bytes, at `position`; durable on return if asked for.
pub fn write_at(
    file: &impl AsFd,
    position: u64,
    from: &[SharedBytes],
    skip: usize,
    durable: bool,
) -> io::Result<usize> {
    let (fd, offset, vectors) = (file.as_fd().as_raw_fd(), offset(position)?, Vectors::new(from, skip));
    let flags = if durable { libc::RWF_DSYNC } else { 0 };
    // SAFETY: as for `read_at`; the kernel only reads the memory that the entries name.
    moved(unsafe { libc::pwritev2(fd, vectors.list.as_ptr(), vectors.count(), offset, flags) })
}

/// Waits until one of `fds` is readable or the time is over; bit i of the answer tells of `fds[i]`.
pub fn wait_readable<const N: usize>(fds: [RawFd; N], limit: Duration) -> io::Result<u32> {
    let mut polled = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let milliseconds = libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the array has `N` initialised entries and lives across the call. A negative descriptor is ignored by the
    // kernel and a wrong one is reported in `revents`; neither touches memory.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, milliseconds) };
    if ready < 0 {
        return Err(io::Error::last_os_error());
    }
    let readable = |(i, polled): (usize, &libc::pollfd)| u32::from(polled.revents & libc::POLLIN != 0) << i;
    Ok(polled.iter().enumerate().map(readable).sum())
}

/// Gives the calling thread a policy of sched(7) that has no priorities and needs no right: `SCHED_OTHER`, `SCHED_BATCH`.
pub fn schedule_as(policy: libc::c_int) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads the structure, which lives across the call; 0 is the calling thread.
    done(unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) })
}

/// What [`interface_call`] asks for. Each takes a pointer to at most an [`InterfaceRequest`] and reads or writes no more.
#[derive(Clone, Copy, Debug)]
pub enum InterfaceCall {
    /// On the TUN device: become the interface of that name, with those flags. Fills in the name.
    SetTap,
    /// On a TAP: its name and flags.
    GetTap,
    /// On a TAP: bytes of the header before each frame, from where the name would be.
    SetHeaderBytes,
    /// On any socket: the MTU of the interface of that name.
    GetMtu,
}

/// `struct ifreq`: a name, then what the call is about.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default)]
pub struct InterfaceRequest {
    /// Name, zero-terminated.
    pub name: [u8; libc::IFNAMSIZ],
    /// Flags or a number, in the machine's byte order.
    pub value: [u8; 24],
}

/// One `ioctl` about an interface.
pub fn interface_call(fd: &impl AsFd, call: InterfaceCall, request: &mut InterfaceRequest) -> io::Result<()> {
    const { assert!(size_of::<InterfaceRequest>() >= size_of::<libc::ifreq>()) };
    let number = match call {
        InterfaceCall::SetTap => libc::TUNSETIFF,
        InterfaceCall::GetTap => libc::TUNGETIFF,
        InterfaceCall::SetHeaderBytes => libc::TUNSETVNETHDRSZ,
        InterfaceCall::GetMtu => libc::SIOCGIFMTU,
    };
    let (fd, request) = (fd.as_fd().as_raw_fd(), std::ptr::from_mut(request));
    // SAFETY: each of these calls copies a `struct ifreq` or an `int` from the pointer and back; the request is exclusively
    // borrowed across the call, initialised, no smaller than either, and any bytes are valid in it. On a descriptor of
    // another kind of file the numbers mean nothing else: their type byte is the TUN driver's or the socket layer's.
    done(unsafe { libc::ioctl(fd, number, request) })
}

/// Tells a TAP which offloads (`TUN_F_`) its reader takes.
pub fn set_tap_offloads(fd: &impl AsFd, offloads: libc::c_uint) -> io::Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the argument of TUNSETOFFLOAD is a number; no memory is named. The descriptor is open while it is borrowed.
    done(unsafe { libc::ioctl(fd, libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads)) })
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
