//! The lists, a call a row, each with who needs it. What is in no list of a role is denied to it.
//!
//! A role's filter is [`RUNTIME`] and its own list. A thread inherits the filters of the one that started it, so the control
//! thread's filter also holds the lists of the workers that it may start; what a worker may do is what both allow.
//!
//! Numbers are libc's for the architecture that is built for; those that only x86-64 has stand at the end.

use super::Rule::{Always, Fails, When};
use super::Test::{Bits, Is, Null, OwnProcess};
use super::{Row, Test};
use libc::*;

/// No memory is both written by us and run: neither mapped so nor made so.
const NO_EXEC: Test = Bits(2, PROT_EXEC as u32, 0);
/// Memory of nobody else: the allocator's, stacks.
const PRIVATE_MEMORY: u32 = (MAP_PRIVATE | MAP_ANONYMOUS) as u32;
/// The kernel's state for random numbers, which glibc maps since 2.41; `MAP_DROPPABLE` of linux/mman.h is not in libc.
const DROPPABLE_MEMORY: u32 = 0x08 | MAP_ANONYMOUS as u32;
const MAP_KIND: u32 = (MAP_TYPE | MAP_ANONYMOUS) as u32;

/// What glibc's and musl's `pthread_create` ask for; musl adds `CLONE_DETACHED`, which means nothing any more.
const THREAD: u32 = (CLONE_VM
    | CLONE_FS
    | CLONE_FILES
    | CLONE_SIGHAND
    | CLONE_THREAD
    | CLONE_SYSVSEM
    | CLONE_SETTLS
    | CLONE_PARENT_SETTID
    | CLONE_CHILD_CLEARTID) as u32;
const ALL_BUT_DETACHED: u32 = !(CLONE_DETACHED as u32);

/// `open` flags that make, cut or empty a file. `__O_TMPFILE` is `O_TMPFILE` without `O_DIRECTORY`.
const MAKING: u32 = (O_CREAT | O_TRUNC | (O_TMPFILE & !O_DIRECTORY)) as u32;

// linux/fs.h; libc has the second one only.
const BLKGETSIZE64: u32 = 0x8008_1272;
const BLKDISCARD: u32 = 0x1277;
const BLKZEROOUT: u32 = 0x127f;

/// What Rust's library and libc do on any thread.
pub(crate) const RUNTIME: &[Row] = &[
    // Allocator and stacks. `mmap` of files and `PROT_EXEC` are not among it.
    (SYS_brk, Always),
    (SYS_mmap, When(&[&[NO_EXEC, Bits(3, MAP_KIND, PRIVATE_MEMORY)], &[NO_EXEC, Bits(3, MAP_KIND, DROPPABLE_MEMORY)]])),
    (SYS_mprotect, When(&[&[NO_EXEC]])),
    (SYS_munmap, Always), // also of a window whose last holder ends here
    (SYS_mremap, Always), // keeps the protection
    (SYS_madvise, Always),
    // Locks, joins, sleeps.
    (SYS_futex, Always),
    (SYS_sched_yield, Always),
    (SYS_clock_nanosleep, Always),
    (SYS_nanosleep, Always),
    (SYS_clock_gettime, Always), // where the vDSO has no clock
    (SYS_ppoll, Always),
    // A thread's start and end.
    (SYS_set_robust_list, Always),
    (SYS_rseq, Always),
    (SYS_sigaltstack, Always),
    // A queue's thread changes its own manner, between the two policies that anybody may have.
    (SYS_sched_setscheduler, When(&[&[Is(0, 0), Is(1, SCHED_OTHER as u32)], &[Is(0, 0), Is(1, SCHED_BATCH as u32)]])),
    (SYS_sched_getaffinity, Always), // how many arenas, how many CPUs
    (SYS_gettid, Always),
    (SYS_exit, Always),
    (SYS_exit_group, Always),
    // Signals: masks, returns, `abort`.
    (SYS_rt_sigprocmask, Always),
    (SYS_rt_sigaction, Always),
    (SYS_rt_sigreturn, Always),
    (SYS_restart_syscall, Always),
    (SYS_getpid, Always),
    (SYS_tgkill, When(&[&[OwnProcess(0)]])),
    // Hash maps' keys; the entropy device.
    (SYS_getrandom, Always),
    // Doorbells, wake-ups, a panic's message; descriptors end with their owners.
    (SYS_read, Always),
    (SYS_write, Always),
    (SYS_close, Always),
    (SYS_fcntl, When(&[&[Is(1, F_GETFD as u32)], &[Is(1, F_GETFL as u32)]])), // debug builds look before they close
    // Its flags are in memory, where a filter cannot look; libc then takes `clone`.
    (SYS_clone3, Fails(ENOSYS)),
    // A panic's backtrace, libc's look at the CPUs. All of them go on without.
    (SYS_openat, Fails(EACCES)),
    (SYS_readlinkat, Fails(EACCES)),
    (SYS_getcwd, Fails(EACCES)),
    (SYS_statx, Fails(EACCES)),
    (SYS_newfstatat, Fails(EACCES)),
];

/// What a disk does: `disk/raw.rs`, `sys.rs` of the backends.
pub(crate) const BLOCK: &[Row] = &[
    (SYS_preadv, Always),
    (SYS_pwritev, Always),
    (SYS_pread64, Always), // the same with one piece, as Rust's library does it
    (SYS_pwrite64, Always),
    // Plain, or durable on return.
    (SYS_pwritev2, When(&[&[Is(5, 0)], &[Is(5, RWF_DSYNC as u32)]])),
    (SYS_fdatasync, Always),
    // Discard and write-zeroes; never a larger or a smaller file.
    (
        SYS_fallocate,
        When(&[
            &[Is(1, (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) as u32)],
            &[Is(1, (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE) as u32)],
        ]),
    ),
    (SYS_lseek, Always), // the size, when it is asked for again
    // A block device's size, discard and zeroing: no more than the calls above can do to it.
    (SYS_ioctl, When(&[&[Is(1, BLKGETSIZE64)], &[Is(1, BLKDISCARD)], &[Is(1, BLKZEROOUT)]])),
];

/// What a network card's queues do with a TAP or a connected socket. They cannot pass descriptors or name a peer.
pub(crate) const NET: &[Row] = &[
    (SYS_readv, Always),
    (SYS_writev, Always),
    (SYS_recvfrom, Always),
    (SYS_sendto, When(&[&[Null(4)]])), // to the connected peer only
    (SYS_shutdown, Always),
];

/// What the control thread does besides when a TAP arrives: `net/tap/open.rs`.
pub(crate) const NET_CONTROL: &[Row] = &[
    // The MTU is asked of a datagram socket; it can send nowhere, where the network namespace is empty.
    (SYS_socket, When(&[&[Is(0, AF_INET as u32), Bits(1, SOCKET_TYPE, SOCK_DGRAM as u32)]])),
    (SYS_bind, Always),
    (
        SYS_ioctl,
        When(&[
            &[Is(1, TUNGETIFF as u32)],
            &[Is(1, TUNSETVNETHDRSZ as u32)],
            &[Is(1, TUNSETOFFLOAD as u32)],
            &[Is(1, SIOCGIFMTU as u32)],
        ]),
    ),
];

/// A socket's type without its flags.
const SOCKET_TYPE: u32 = 0xf;

/// What user-mode networking does: sockets of the internet families, for guests.
pub(crate) const USER_NET: &[Row] = &[
    (
        SYS_socket,
        When(&[
            &[Is(0, AF_INET as u32), Bits(1, SOCKET_TYPE, SOCK_STREAM as u32)],
            &[Is(0, AF_INET as u32), Bits(1, SOCKET_TYPE, SOCK_DGRAM as u32)],
            &[Is(0, AF_INET6 as u32), Bits(1, SOCKET_TYPE, SOCK_STREAM as u32)],
            &[Is(0, AF_INET6 as u32), Bits(1, SOCKET_TYPE, SOCK_DGRAM as u32)],
        ]),
    ),
    (SYS_connect, Always),
    (SYS_bind, Always),
    (SYS_listen, Always),
    (SYS_accept4, Always),
    (SYS_getsockname, Always),
    (SYS_getpeername, Always),
    (SYS_getsockopt, Always),
    // A reset instead of a lingering end; small segments at once; a published port that was in use a moment ago.
    (
        SYS_setsockopt,
        When(&[
            &[Is(1, SOL_SOCKET as u32), Is(2, SO_LINGER as u32)],
            &[Is(1, SOL_SOCKET as u32), Is(2, SO_REUSEADDR as u32)],
            &[Is(1, IPPROTO_TCP as u32), Is(2, TCP_NODELAY as u32)],
        ]),
    ),
    (SYS_readv, Always),
    (SYS_writev, Always),
    (SYS_recvfrom, Always),
    (SYS_sendto, Always),
    (SYS_shutdown, Always),
    (SYS_epoll_ctl, Always),
    (SYS_epoll_pwait, Always),
    (SYS_ioctl, When(&[&[Is(1, FIONBIO as u32)]])),
    // The resolver's configuration, if the caller's list has it: reading only.
    (SYS_openat, When(&[&[Bits(2, O_ACCMODE as u32 | MAKING, O_RDONLY as u32)]])),
];

/// What the control thread does: it takes connections, windows and images, and starts workers.
pub(crate) const CONTROL: &[Row] = &[
    // Connections on a socket that was bound before; descriptors arrive by `recvmsg`.
    (SYS_accept4, Always),
    (SYS_recvmsg, Always),
    (SYS_sendmsg, Always),
    (SYS_recvfrom, Always),
    (SYS_sendto, When(&[&[Null(4)]])),
    (SYS_readv, Always),
    (SYS_writev, Always),
    (SYS_shutdown, Always),
    (SYS_getsockname, Always),
    (SYS_getpeername, Always),
    (SYS_getsockopt, Always), // whose connection it is
    // Deadlines of a connection.
    (
        SYS_setsockopt,
        When(&[
            &[Is(1, SOL_SOCKET as u32), Is(2, SO_RCVTIMEO as u32)],
            &[Is(1, SOL_SOCKET as u32), Is(2, SO_SNDTIMEO as u32)],
        ]),
    ),
    (SYS_ioctl, When(&[&[Is(1, FIONBIO as u32)]])),
    // Signals arrive on a pair of sockets of our own.
    (SYS_socketpair, When(&[&[Is(0, AF_UNIX as u32)]])),
    // Waiting.
    (SYS_epoll_create1, Always),
    (SYS_epoll_ctl, Always),
    (SYS_epoll_pwait, Always),
    (SYS_eventfd2, Always),
    (SYS_timerfd_create, Always),
    (SYS_timerfd_settime, Always),
    // Windows: any mapping but one that can be run.
    (SYS_mmap, When(&[&[NO_EXEC]])),
    // Images: opened, never made; their size, their lock; whether a window is sealed.
    (SYS_openat, When(&[&[Bits(2, MAKING, 0)]])),
    (SYS_fstat, Always),
    (SYS_statx, Always),
    (SYS_newfstatat, Always),
    (SYS_lseek, Always),
    (
        SYS_fcntl,
        When(&[
            &[Is(1, F_DUPFD_CLOEXEC as u32)],
            &[Is(1, F_SETFD as u32)],
            &[Is(1, F_SETFL as u32)],
            &[Is(1, F_OFD_SETLK as u32)],
            &[Is(1, F_GET_SEALS as u32)],
        ]),
    ),
    // Threads: exactly threads, which have a name and enter filters of their own.
    (SYS_clone, When(&[&[Bits(0, ALL_BUT_DETACHED, THREAD)]])),
    (SYS_prctl, When(&[&[Is(0, PR_SET_NAME as u32)], &[Is(0, PR_SET_NO_NEW_PRIVS as u32)]])),
    (SYS_seccomp, When(&[&[Is(0, SECCOMP_SET_MODE_FILTER), Is(1, 0)]])), // no listener, no other threads
    // Who we are, against who connected.
    (SYS_getuid, Always),
    (SYS_geteuid, Always),
    // A listener that tidies its path away: whoever bound it does that.
    (SYS_unlinkat, Fails(EACCES)),
];

/// Further rows of x86-64, which kept calls that younger architectures have in one form only.
#[cfg(target_arch = "x86_64")]
pub(crate) mod older {
    use super::{Always, EACCES, Fails, Row};

    pub(crate) const RUNTIME: &[Row] =
        &[(libc::SYS_poll, Always), (libc::SYS_readlink, Fails(EACCES)), (libc::SYS_open, Fails(EACCES))];
    pub(crate) const WAITING: &[Row] = &[(libc::SYS_epoll_wait, Always)];
    pub(crate) const CONTROL: &[Row] = &[(libc::SYS_unlink, Fails(EACCES))];
}

/// Further rows of other architectures: none.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) mod older {
    use super::Row;

    pub(crate) const RUNTIME: &[Row] = &[];
    pub(crate) const WAITING: &[Row] = &[];
    pub(crate) const CONTROL: &[Row] = &[];
}
