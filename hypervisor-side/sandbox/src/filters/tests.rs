//! The programs, run call by call as the kernel would.

mod interpreter;

use super::*;
use interpreter::{ARCH, Made, run};
use libc::*;

const ALL: &[Role] = &[Role::Control, Role::Block, Role::Net, Role::UserNet];
const WORKERS: &[Role] = &[Role::Block, Role::Net, Role::UserNet];

/// What the kernel would do.
const ALLOW: u32 = SECCOMP_RET_ALLOW;
const KILL: u32 = SECCOMP_RET_KILL_PROCESS;

/// The hardest of the answers, as the kernel chooses: the smallest action, taken as a signed number.
fn answer(filters: &Filters, role: Role, made: Made) -> u32 {
    let (_, programs) = filters.programs.iter().find(|(other, _)| *other == role).unwrap();
    let answers = programs.failing.iter().chain([&programs.listed]).map(|program| run(program, made));
    answers.min_by_key(|answer| (answer & SECCOMP_RET_ACTION_FULL).cast_signed()).unwrap()
}

fn strict() -> Filters {
    Filters::new(Mode::Strict, WORKERS).unwrap()
}

fn made(number: c_long, arguments: &[u64]) -> Made {
    let mut made = Made { number: number as u32, arch: ARCH, arguments: [0; 6] };
    made.arguments[..arguments.len()].copy_from_slice(arguments);
    made
}

fn judged(role: Role, number: c_long, arguments: &[u64]) -> u32 {
    answer(&strict(), role, made(number, arguments))
}

fn fails(error: c_int) -> u32 {
    SECCOMP_RET_ERRNO | error.unsigned_abs()
}

#[test]
fn every_number_without_a_row_ends_the_process() {
    let filters = strict();
    for &role in ALL {
        let rows = judge(role, WORKERS);
        let unlisted = (0..2048).filter(|number| !rows.contains_key(number));
        for number in unlisted {
            assert_eq!(answer(&filters, role, made(number, &[])), KILL, "{role:?}: {number}");
        }
    }
}

#[test]
fn every_row_can_be_passed_or_fails_as_it_says() {
    let filters = strict();
    for &role in ALL {
        for (number, rules) in judge(role, WORKERS) {
            let expected = match rules[0] {
                Rule::Always => ALLOW,
                Rule::Fails(error) => fails(error),
                Rule::When(_) => continue,
            };
            let answer = answer(&filters, role, made(number, &[u64::MAX; 6]));
            assert_eq!(answer, expected, "{role:?}: {number}");
        }
    }
}

#[test]
fn what_a_taken_backend_would_want_is_in_no_list() {
    let wanted = [
        SYS_bpf,
        SYS_keyctl,
        SYS_add_key,
        SYS_request_key,
        SYS_io_uring_setup,
        SYS_io_uring_enter,
        SYS_io_uring_register,
        SYS_userfaultfd,
        SYS_perf_event_open,
        SYS_ptrace,
        SYS_process_vm_readv,
        SYS_process_vm_writev,
        SYS_process_madvise,
        SYS_pidfd_open,
        SYS_pidfd_getfd,
        SYS_pidfd_send_signal,
        SYS_kill,
        SYS_tkill,
        SYS_rt_sigqueueinfo,
        SYS_rt_tgsigqueueinfo,
        SYS_execve,
        SYS_execveat,
        SYS_unshare,
        SYS_setns,
        SYS_mount,
        SYS_umount2,
        SYS_pivot_root,
        SYS_chroot,
        SYS_fsopen,
        SYS_open_tree,
        SYS_move_mount,
        SYS_setuid,
        SYS_setresuid,
        SYS_setgid,
        SYS_setgroups,
        SYS_capset,
        SYS_personality,
        SYS_memfd_create,
        SYS_memfd_secret,
        SYS_shmget,
        SYS_shmat,
        SYS_msgget,
        SYS_semget,
        SYS_openat2,
        SYS_open_by_handle_at,
        SYS_name_to_handle_at,
        SYS_ftruncate,
        SYS_truncate,
        SYS_linkat,
        SYS_symlinkat,
        SYS_renameat2,
        SYS_mkdirat,
        SYS_mknodat,
        SYS_fchmod,
        SYS_fchown,
        SYS_fsetxattr,
        SYS_fanotify_init,
        SYS_inotify_init1,
        SYS_vmsplice,
        SYS_splice,
        SYS_tee,
        SYS_sendfile,
        SYS_copy_file_range,
        SYS_init_module,
        SYS_finit_module,
        SYS_delete_module,
        SYS_kexec_load,
        SYS_reboot,
        SYS_swapon,
        SYS_settimeofday,
        SYS_clock_settime,
        SYS_adjtimex,
        SYS_sethostname,
        SYS_acct,
        SYS_quotactl,
        SYS_syslog,
        SYS_prlimit64,
        SYS_sched_setparam,
        SYS_sched_setattr,
        SYS_sched_setaffinity,
        SYS_setpriority,
        SYS_mlock,
        SYS_mlockall,
        SYS_remap_file_pages,
        SYS_pkey_mprotect,
        SYS_kcmp,
        SYS_socketpair,
        SYS_landlock_create_ruleset,
        SYS_lookup_dcookie,
        SYS_vhangup,
    ];
    for &role in ALL {
        for number in wanted {
            assert_eq!(judged(role, number, &[]), KILL, "{role:?}: {number}");
        }
    }
}

#[test]
fn memory_that_can_be_run_is_neither_mapped_nor_made() {
    let anonymous = (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE) as u64;
    for &role in ALL {
        let map = |protection: u64, flags: u64| judged(role, SYS_mmap, &[0, 4096, protection, flags, 3, 0]);
        for exec in [PROT_EXEC, PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC] {
            let exec = exec as u64;
            assert_eq!(map(exec, anonymous), KILL, "{role:?}");
            assert_eq!(map(exec | 1 << 32, anonymous), KILL, "{role:?}");
            assert_eq!(judged(role, SYS_mprotect, &[0, 4096, exec]), KILL, "{role:?}");
        }
        assert_eq!(map((PROT_READ | PROT_WRITE) as u64, anonymous), ALLOW, "{role:?}");
        assert_eq!(judged(role, SYS_mprotect, &[0, 4096, (PROT_READ | PROT_WRITE) as u64]), ALLOW, "{role:?}");
        assert_eq!(
            map((PROT_READ | PROT_WRITE) as u64, 0x08 | MAP_ANONYMOUS as u64),
            ALLOW,
            "{role:?}: glibc's randomness"
        );
        // A window: only the control thread maps it.
        let window = map((PROT_READ | PROT_WRITE) as u64, MAP_SHARED as u64);
        assert_eq!(window, if role == Role::Control { ALLOW } else { KILL }, "{role:?}");
    }
}

#[test]
fn only_the_control_thread_starts_anything_and_only_threads() {
    let thread = 0x003d_0f00_u64; // glibc's pthread_create, as strace shows it
    for (flags, allowed) in [
        (thread, true),
        (thread | CLONE_DETACHED as u64, true), // musl's
        (thread | CLONE_NEWUSER as u64, false),
        (thread | CLONE_PTRACE as u64, false),
        (thread & !(CLONE_THREAD as u64), false),
        (SIGCHLD as u64, false),                                               // fork
        ((CLONE_VM | CLONE_VFORK | SIGCHLD) as u64, false),                    // posix_spawn
        ((CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD) as u64, false), // glibc's fork
    ] {
        let expected = if allowed { ALLOW } else { KILL };
        assert_eq!(judged(Role::Control, SYS_clone, &[flags]), expected, "{flags:#x}");
        for &worker in WORKERS {
            assert_eq!(judged(worker, SYS_clone, &[flags]), KILL, "{worker:?}: {flags:#x}");
        }
    }
    for &role in ALL {
        assert_eq!(judged(role, SYS_clone3, &[]), fails(ENOSYS), "{role:?}");
    }
}

#[test]
fn sockets_are_made_by_user_mode_networking_and_for_a_taps_mtu() {
    let (tcp, udp) = ((SOCK_STREAM | SOCK_CLOEXEC) as u64, (SOCK_DGRAM | SOCK_CLOEXEC) as u64);
    for (domain, kind, users) in [
        (AF_INET, tcp, &[Role::UserNet][..]),
        (AF_INET6, udp, &[Role::UserNet]),
        (AF_INET, udp, &[Role::UserNet, Role::Control]),
        (AF_INET, SOCK_RAW as u64, &[]),
        (AF_UNIX, tcp, &[]),
        (AF_NETLINK, SOCK_RAW as u64, &[]),
        (AF_PACKET, SOCK_RAW as u64, &[]),
        (AF_VSOCK, tcp, &[]),
        (AF_ALG, SOCK_SEQPACKET as u64, &[]),
    ] {
        let filters = Filters::new(Mode::Strict, &[Role::Block, Role::Net]).unwrap();
        let user = Filters::new(Mode::Strict, &[Role::UserNet]).unwrap();
        let call = made(SYS_socket, &[domain as u64, kind, 0]);
        let allowed = |filters, role| answer(filters, role, call) == ALLOW;
        for role in [Role::Control, Role::Block, Role::Net] {
            assert_eq!(allowed(&filters, role), users.contains(&role), "{role:?}: {domain} {kind}");
        }
        assert_eq!(allowed(&user, Role::UserNet), users.contains(&Role::UserNet), "{domain} {kind}");
    }
    let block = Filters::new(Mode::Strict, &[Role::Block]).unwrap();
    for number in [SYS_socket, SYS_connect, SYS_bind, SYS_listen] {
        let call = made(number, &[AF_INET as u64, SOCK_DGRAM as u64]);
        assert_eq!(answer(&block, Role::Control, call), KILL, "{number}");
    }
}

#[test]
fn arguments_are_checked_where_they_matter() {
    let own = u64::from(std::process::id());
    let keep = FALLOC_FL_KEEP_SIZE as u64;
    let null = 0;
    for (role, number, arguments, allowed) in [
        (Role::Block, SYS_tgkill, &[own, 1, 6][..], true),
        (Role::Block, SYS_tgkill, &[own + 1, 1, 6], false),
        (Role::Block, SYS_fallocate, &[3, FALLOC_FL_PUNCH_HOLE as u64 | keep], true),
        (Role::Block, SYS_fallocate, &[3, FALLOC_FL_ZERO_RANGE as u64 | keep], true),
        (Role::Block, SYS_fallocate, &[3, 0], false),
        (Role::Block, SYS_fallocate, &[3, FALLOC_FL_ZERO_RANGE as u64], false),
        (Role::Block, SYS_pwritev2, &[3, 0, 1, 0, 0, RWF_DSYNC as u64], true),
        (Role::Block, SYS_pwritev2, &[3, 0, 1, 0, 0, RWF_APPEND as u64], false),
        (Role::Block, SYS_ioctl, &[3, 0x1277], true),
        (Role::Block, SYS_ioctl, &[3, TIOCSTI], false),
        (Role::Net, SYS_ioctl, &[3, TUNSETIFF], false),
        (Role::Control, SYS_ioctl, &[3, TUNSETIFF], false),
        (Role::Control, SYS_ioctl, &[3, TUNGETIFF], true),
        (Role::Control, SYS_ioctl, &[3, TIOCSTI], false),
        (Role::Net, SYS_sendto, &[3, 0, 1, 0, null, 0], true),
        (Role::Net, SYS_sendto, &[3, 0, 1, 0, 1 << 40, 16], false),
        (Role::Control, SYS_prctl, &[PR_SET_NAME as u64], true),
        (Role::Control, SYS_prctl, &[PR_SET_DUMPABLE as u64], false),
        (Role::Control, SYS_prctl, &[PR_SET_MM as u64], false),
        (Role::Block, SYS_prctl, &[PR_SET_NAME as u64], false),
        (Role::Control, SYS_seccomp, &[u64::from(SECCOMP_SET_MODE_FILTER), 0], true),
        (Role::Control, SYS_seccomp, &[u64::from(SECCOMP_SET_MODE_FILTER), SECCOMP_FILTER_FLAG_NEW_LISTENER], false),
        (Role::Control, SYS_seccomp, &[u64::from(SECCOMP_SET_MODE_STRICT), 0], false),
        (Role::Control, SYS_fcntl, &[3, F_ADD_SEALS as u64], false),
        (Role::Block, SYS_seccomp, &[u64::from(SECCOMP_SET_MODE_FILTER)], false),
        (Role::Control, SYS_openat, &[0, 0, (O_RDWR | O_CLOEXEC) as u64], true),
        (Role::Control, SYS_openat, &[0, 0, (O_RDWR | O_CREAT) as u64], false),
        (Role::Control, SYS_openat, &[0, 0, (O_RDWR | O_TRUNC) as u64], false),
        (Role::Control, SYS_openat, &[0, 0, (O_RDWR | O_TMPFILE) as u64], false),
        (Role::UserNet, SYS_openat, &[0, 0, (O_RDONLY | O_CLOEXEC) as u64], true),
        (Role::UserNet, SYS_openat, &[0, 0, O_WRONLY as u64], false),
        (Role::Control, SYS_fcntl, &[3, F_OFD_SETLK as u64], true),
        (Role::Control, SYS_fcntl, &[3, F_SETOWN as u64], false),
        (Role::Block, SYS_fcntl, &[3, F_SETFL as u64], false),
        (Role::Control, SYS_setsockopt, &[3, SOL_SOCKET as u64, SO_RCVTIMEO as u64], true),
        (Role::Control, SYS_setsockopt, &[3, SOL_SOCKET as u64, SO_ATTACH_FILTER as u64], false),
        (Role::Control, SYS_sched_setscheduler, &[0, SCHED_BATCH as u64], true),
        (Role::Control, SYS_sched_setscheduler, &[1, SCHED_BATCH as u64], false),
        (Role::Control, SYS_sched_setscheduler, &[0, SCHED_FIFO as u64], false),
        (Role::Block, SYS_sched_setscheduler, &[0, SCHED_BATCH as u64], true),
        (Role::Block, SYS_sched_setscheduler, &[0, SCHED_OTHER as u64], true),
        (Role::Block, SYS_sched_setscheduler, &[0, SCHED_IDLE as u64], false),
    ] {
        let expected = if allowed { ALLOW } else { KILL };
        assert_eq!(judged(role, number, arguments), expected, "{role:?}: {number} {arguments:x?}");
    }
}

/// The control thread's filter is inherited: a call that it lacks would be denied to the worker too.
#[test]
fn a_workers_calls_are_its_starters_too() {
    for &worker in WORKERS {
        let filters = Filters::new(Mode::Strict, &[worker]).unwrap();
        let starter = judge(Role::Control, &[worker]);
        for (number, rules) in judge(worker, &[worker]) {
            let groups = rules.iter().flat_map(|rule| match rule {
                Rule::When(groups) => *groups,
                _ => &[],
            });
            for tests in groups {
                let call = satisfying(number, tests);
                assert_eq!(answer(&filters, worker, call), ALLOW, "{worker:?}: {number} {tests:?}");
                assert_eq!(answer(&filters, Role::Control, call), ALLOW, "{worker:?}'s starter: {number} {tests:?}");
            }
            if matches!(rules[0], Rule::Always) {
                assert!(
                    starter[&number].iter().any(|rule| matches!(rule, Rule::Always)),
                    "{worker:?}'s starter: {number}"
                );
            }
        }
    }
}

/// A call for which all tests hold.
fn satisfying(number: i64, tests: &[Test]) -> Made {
    let mut call = made(number, &[]);
    for test in tests {
        let (argument, value) = match *test {
            Test::Is(argument, value) | Test::Bits(argument, _, value) => (argument, value),
            Test::Null(argument) => (argument, 0),
            Test::OwnProcess(argument) => (argument, std::process::id()),
        };
        call.arguments[usize::from(argument)] |= u64::from(value);
    }
    call
}

#[test]
fn calls_of_another_architecture_end_the_process_in_every_mode() {
    for mode in [Mode::Strict, Mode::Log] {
        let filters = Filters::new(mode, WORKERS).unwrap();
        let i386_execve = Made { number: 11, arch: 0x4000_0003, arguments: [0; 6] };
        assert_eq!(answer(&filters, Role::Block, i386_execve), KILL, "{mode}");
    }
    // x32: the same architecture, other numbers.
    assert_eq!(judged(Role::Block, 0x4000_0000 | SYS_read, &[]), KILL);
}

#[test]
fn in_log_mode_an_unlisted_call_is_done_and_logged() {
    let filters = Filters::new(Mode::Log, WORKERS).unwrap();
    for &role in ALL {
        for number in [SYS_execve, SYS_bpf, SYS_ptrace] {
            assert_eq!(answer(&filters, role, made(number, &[])), SECCOMP_RET_LOG, "{role:?}: {number}");
        }
        let exec = made(SYS_mmap, &[0, 4096, PROT_EXEC as u64, MAP_PRIVATE as u64]);
        assert_eq!(answer(&filters, role, exec), SECCOMP_RET_LOG, "{role:?}");
        assert_eq!(answer(&filters, role, made(SYS_read, &[])), ALLOW, "{role:?}");
        assert_eq!(answer(&filters, role, made(SYS_clone3, &[])), fails(ENOSYS), "{role:?}");
    }
    assert_eq!(answer(&filters, Role::Block, made(SYS_openat, &[])), SECCOMP_RET_LOG);
}

#[test]
fn a_role_without_a_filter_is_refused_and_off_needs_none() {
    let filters = Filters::new(Mode::Strict, &[Role::Block]).unwrap();
    assert!(matches!(filters.enter(Role::Net), Err(SandboxError::NoSuchRole(_))));
    let off = Filters::new(Mode::Off, &[]).unwrap();
    assert_eq!(off.enter(Role::Net).unwrap().outcome, Outcome::Off);
}
