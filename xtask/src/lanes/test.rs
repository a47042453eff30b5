//! Everything else: what is built, run and counted.

use crate::lane::{Full, Lane, Stage, run, run_saying, run_with, seconds, tests, tests_with};
use crate::need::Need;

/// In the order they run.
pub const LANES: &[Lane] = &[
    Lane {
        name: "tests",
        protects: "Every crate without a lane of its own does what its tests say.",
        stage: Stage::Test,
        needs: &[],
        steps: &[tests(
            "cargo test --no-fail-fast --lib --bins --tests -p pvkit-shared-memory -p pvkit-guest-drivers -p pvkit-backends \
             -p pvkit-machine -p unikernel-app -p unikernel-hosted -p embed-a-backend -p xtask",
        )],
        limit: seconds(600),
        full: None,
    },
    Lane {
        name: "sandbox",
        protects: "A backend that was taken over reaches nothing but what it was given; an honest one notices nothing.",
        stage: Stage::Test,
        needs: &[],
        steps: &[tests("cargo test --no-fail-fast -p pvkit-sandbox --lib --tests")],
        limit: seconds(300),
        full: None,
    },
    Lane {
        name: "driver-domain",
        protects: "Monitor and daemon believe nothing of each other, and a daemon that comes back is found.",
        stage: Stage::Test,
        needs: &[],
        steps: &[tests("cargo test --no-fail-fast -p pvkit-driver-domain --lib --tests")],
        limit: seconds(300),
        full: None,
    },
    Lane {
        name: "abi",
        protects: "The bytes on the wire are the golden ones, in Rust and in the C header.",
        stage: Stage::Test,
        needs: &[Need::Cc],
        steps: &[tests("cargo test --no-fail-fast -p pvkit-abi --lib --tests -- --show-output")],
        limit: seconds(300),
        full: None,
    },
    Lane {
        name: "ring-model",
        protects: "Both halves of a ring agree with a model that knows no ring, near every wrap.",
        stage: Stage::Test,
        needs: &[],
        steps: &[tests("cargo test -p pvkit-ring --lib --test walk")],
        limit: seconds(300),
        full: Some(Full {
            steps: &[
                tests("cargo test -p pvkit-ring --lib --test walk"),
                tests_with("cargo test --release -p pvkit-ring --test walk", &[("PROPTEST_CASES", "20000")]),
            ],
            limit: seconds(900),
        }),
    },
    Lane {
        name: "hostile",
        protects: "A peer that rewrites any shared word between any two steps breaks nothing but its own queue.",
        stage: Stage::Test,
        needs: &[],
        steps: &[tests("cargo test --release -p pvkit-ring --test hostile")],
        limit: seconds(300),
        full: Some(Full {
            steps: &[tests_with(
                "cargo test --release -p pvkit-ring --test hostile",
                &[("PVKIT_HOSTILE_STEPS", "100000000")],
            )],
            limit: seconds(3600),
        }),
    },
    Lane {
        name: "loom",
        protects: "No interleaving of publish and sleep loses a wake-up; mutants without a fence do, and are caught.",
        stage: Stage::Test,
        needs: &[],
        steps: &[tests("cargo test --release -p pvkit-ring --test loom")],
        limit: seconds(600),
        full: None,
    },
    Lane {
        name: "core",
        protects: "The hypervisor's logic keeps its invariants under any calls of any guest.",
        stage: Stage::Test,
        needs: &[],
        steps: &[tests("cargo test -p pvkit-core --lib --tests")],
        limit: seconds(300),
        full: Some(Full {
            steps: &[
                tests("cargo test -p pvkit-core --lib --tests"),
                tests_with(
                    "cargo test --release -p pvkit-core --lib",
                    &[("PROPTEST_CASES", "4000"), ("PVKIT_HOSTILE_STEPS", "3000000")],
                ),
            ],
            limit: seconds(1800),
        }),
    },
    Lane {
        name: "miri",
        protects: "Shared words, bulk copies and two racing halves have no undefined behaviour that Miri can see.",
        stage: Stage::Test,
        needs: &[Need::Miri],
        steps: &[
            tests_with(
                "cargo +nightly miri test -p pvkit-shared-memory --features std --lib --tests",
                &[("CARGO_TARGET_DIR", "{target}/miri")],
            ),
            tests_with("cargo +nightly miri test -p pvkit-ring --lib", &[("CARGO_TARGET_DIR", "{target}/miri")]),
        ],
        limit: seconds(600),
        full: None,
    },
    Lane {
        name: "wakeups",
        protects: "Two sides that really sleep in the kernel never sleep past work.",
        stage: Stage::Test,
        needs: &[],
        steps: &[run(
            "cargo run --release --quiet -p pvkit-ring --example wakeups -- --requests 2000000 --sleeps 200000",
        )],
        limit: seconds(300),
        full: Some(Full {
            steps: &[run(
                "cargo run --release --quiet -p pvkit-ring --example wakeups -- --requests 100000000 --sleeps 1000000",
            )],
            limit: seconds(1800),
        }),
    },
    Lane {
        name: "instructions",
        protects: "A request costs both halves of the ring no more than the promised 180 instructions.",
        stage: Stage::Test,
        needs: &[Need::Valgrind, Need::GungraunRunner],
        steps: &[run("cargo bench -p pvkit-ring --bench instructions")],
        limit: seconds(600),
        full: None,
    },
    Lane {
        name: "no-panic",
        protects: "Nothing that a peer writes makes the ring panic: an image of all its functions links without a handler.",
        stage: Stage::Test,
        needs: &[Need::NoneTarget],
        steps: &[tests("cargo test -p pvkit-no-panic --tests")],
        limit: seconds(300),
        full: None,
    },
    Lane {
        name: "documentation",
        protects: "The examples in the documentation hold, and its links lead somewhere.",
        stage: Stage::Test,
        needs: &[],
        steps: &[
            tests("cargo test --workspace --exclude unikernel-image --doc"),
            run_with("cargo doc --workspace --exclude unikernel-image --no-deps", &[("RUSTDOCFLAGS", "-D warnings")]),
        ],
        limit: seconds(600),
        full: None,
    },
    Lane {
        name: "guest-freestanding",
        protects: "The guest images build without an operating system, for CPL 3 and CPL 0.",
        stage: Stage::Test,
        needs: &[Need::NoneTarget],
        steps: &[
            run("cargo build -p unikernel-image --profile guest --target x86_64-unknown-none"),
            run("cargo build -p pvkit-guest-drivers --features x86,static-pool,embedded-io-async \
                 --target x86_64-unknown-none"),
        ],
        limit: seconds(300),
        full: None,
    },
    Lane {
        name: "c-api",
        protects: "The C header is what the sources say, and the drivers are a static library without an operating system.",
        stage: Stage::Test,
        needs: &[Need::Cc, Need::NoneTarget],
        steps: &[
            tests("cargo test -p pvkit-guest-c --lib --tests -- --show-output"),
            run("cargo clippy -p pvkit-guest-c --target x86_64-unknown-none -- -D warnings"),
            run("cargo rustc -p pvkit-guest-c --crate-type staticlib --profile guest --target x86_64-unknown-none"),
        ],
        limit: seconds(300),
        full: None,
    },
    Lane {
        name: "portable",
        protects: "ABI, rings and drivers build for other architectures, and where a pointer has 32 bits.",
        stage: Stage::Test,
        needs: &[Need::PortableTargets],
        steps: &[
            run("cargo build -p pvkit-abi -p pvkit-shared-memory -p pvkit-ring -p pvkit-guest-drivers \
                 --features pvkit-guest-drivers/static-pool,pvkit-guest-drivers/embedded-io-async --target aarch64-unknown-none"),
            run("cargo build -p pvkit-abi -p pvkit-shared-memory -p pvkit-ring -p pvkit-guest-drivers \
                 --features pvkit-guest-drivers/static-pool,pvkit-guest-drivers/embedded-io-async --target riscv64gc-unknown-none-elf"),
            run("cargo build -p pvkit-abi -p pvkit-shared-memory -p pvkit-ring -p pvkit-guest-drivers \
                 --features pvkit-guest-drivers/static-pool,pvkit-guest-drivers/embedded-io-async --target i686-unknown-linux-gnu"),
        ],
        limit: seconds(300),
        full: None,
    },
    Lane {
        name: "guest-static",
        protects: "Without that target the guest images build as static programs, for CPL 3.",
        stage: Stage::Test,
        needs: &[Need::Cc],
        steps: &[run("cargo build -p unikernel-image --profile guest --target x86_64-unknown-linux-gnu")],
        limit: seconds(300),
        full: None,
    },
    Lane {
        name: "in-process",
        protects: "The guest's code does the same without KVM, as a thread of the host.",
        stage: Stage::Test,
        needs: &[],
        steps: &[tests("cargo test -p pvkit-tests --test in_process")],
        limit: seconds(300),
        full: None,
    },
    Lane {
        name: "network",
        protects: "Guests reach each other and the world: every byte right, every checksum right, nothing left behind.",
        stage: Stage::Test,
        needs: &[Need::Kvm, Need::NoneTarget],
        steps: &[tests("cargo test --release -p pvkit-tests --test network_* -- --show-output --test-threads=1")],
        limit: seconds(600),
        full: Some(Full {
            steps: &[tests_with(
                "cargo test --release -p pvkit-tests --test network_* -- --show-output --test-threads=1",
                &[("PVKIT_LONG", "1")],
            )],
            limit: seconds(1800),
        }),
    },
    Lane {
        name: "fuzz",
        protects: "No bytes that somebody else wrote break what reads them: every fuzz target for a minute, on stable.",
        stage: Stage::Test,
        needs: &[],
        steps: &[tests_with(
            "cargo test -p pvkit-fuzz-targets --test targets -- --show-output",
            &[("PVKIT_FUZZ_SECONDS", "60")],
        )],
        limit: seconds(1800),
        full: Some(Full {
            steps: &[tests_with(
                "cargo test --release -p pvkit-fuzz-targets --test targets",
                &[("PVKIT_FUZZ_CASES", "20000")],
            )],
            limit: seconds(3600),
        }),
    },
    Lane {
        name: "kvm",
        protects: "Real guests on KVM, well-behaved and wild, cost what was promised and harm nobody.",
        stage: Stage::Test,
        needs: &[Need::Kvm, Need::NoneTarget],
        steps: &[tests("cargo test -p pvkit-tests --test kvm_* -- --show-output")],
        limit: seconds(600),
        full: None,
    },
    Lane {
        name: "linux",
        protects: "Stock Debian kernels: our guests on their kvm_amd, modules in C inside them, and they as guests.",
        stage: Stage::Test,
        needs: &[Need::Qemu, Need::Busybox, Need::KernelTools, Need::NoneTarget, Need::DiskSpace, Need::DebianKernels],
        steps: &[run("cargo xtask linux")],
        limit: seconds(2400),
        full: Some(Full { steps: &[run("cargo xtask linux --full")], limit: seconds(3600) }),
    },
    Lane {
        name: "linux-style",
        protects: "The modules in C read as the kernel's own critics want them, and the patches apply to pristine source.",
        stage: Stage::Test,
        needs: &[Need::KernelTools, Need::KernelCritics, Need::DiskSpace, Need::DebianKernels],
        steps: &[run("cargo xtask linux --style"), run("cargo xtask patches --check")],
        limit: seconds(900),
        full: None,
    },
    Lane {
        name: "program",
        protects: "pvkit names each mistake and its remedy, and leaves no process, lock or file however it ends.",
        stage: Stage::Test,
        needs: &[Need::Kvm, Need::NoneTarget, Need::Mke2fs],
        steps: &[tests("cargo test --no-fail-fast -p pvkit --lib --bins --tests -- --show-output")],
        limit: seconds(900),
        full: Some(Full {
            steps: &[
                tests("cargo test --no-fail-fast -p pvkit --lib --bins --tests -- --show-output"),
                tests_with(
                    "cargo test --release -p pvkit --test driver_domain_kills -- --show-output",
                    &[("PVKIT_KILLS", "1000")],
                ),
            ],
            limit: seconds(1800),
        }),
    },
    Lane {
        name: "mutants",
        protects: "The log test can fail: without the guest's or the backend's flush it does. A host told to lie does lie.",
        stage: Stage::Test,
        needs: &[],
        steps: &[
            tests("cargo test -p pvkit --features mutants --test mutants"),
            tests("cargo test -p pvkit --features mutants --test demo a_guest_that_does_not_flush"),
            tests("cargo test -p pvkit-backends -p pvkit-machine --features mutants --lib hostile"),
        ],
        limit: seconds(300),
        full: None,
    },
    Lane {
        name: "durability",
        protects: "Whoever is killed, and however the medium fails: what was acknowledged is there, and each error was told.",
        stage: Stage::Test,
        needs: &[],
        steps: &[tests("cargo test -p pvkit --features mutants --test faults -- --show-output")],
        limit: seconds(300),
        full: Some(Full {
            steps: &[tests_with(
                "cargo test --release -p pvkit --features mutants --test durability --test faults --test full --test witness \
                 -- --show-output",
                &[("PVKIT_KILLS", "500")],
            )],
            limit: seconds(1800),
        }),
    },
    Lane {
        name: "demo",
        protects: "The main job, whole: a guest on KVM reads files, and keeps its log over being killed.",
        stage: Stage::Test,
        needs: &[Need::Kvm, Need::NoneTarget, Need::Mke2fs],
        steps: &[run_saying("cargo run --release --quiet", "passed on the KVM machine")],
        limit: seconds(300),
        full: Some(Full {
            steps: &[
                run_saying("cargo run --release --quiet", "passed on the KVM machine"),
                run_saying("cargo run --release --quiet -- demo --cpl 0", "passed on the KVM machine"),
                run("cargo run --release --quiet -- demo --ready-made"),
            ],
            limit: seconds(1200),
        }),
    },
    Lane {
        name: "demo-in-process",
        protects: "The main job is done on a machine without KVM as well.",
        stage: Stage::Test,
        needs: &[],
        steps: &[run("cargo run --release --quiet -- demo --machine in-process")],
        limit: seconds(300),
        full: None,
    },
];
