//! The lanes, as data: what each protects, what it needs, what it runs, how long it may take.
//!
//! To add one, add an entry: nothing else knows their names. Quick ones first; a lane's steps stop at the first failure.

use crate::checks::{dependencies, file_length, unsafe_ledger};
use crate::lane::{Lane, Stage, Step, run, run_with, seconds, tests, tests_with};
use crate::need::Need;

/// Every lane, in the order they run.
pub const LANES: &[Lane] = &[
    Lane {
        name: "format",
        protects: "One way to lay out Rust: a diff shows meaning only.",
        stage: Stage::Check,
        needs: &[Need::Rustfmt],
        steps: &[run("cargo fmt --all --check -- --color never")],
        limit: seconds(60),
        full: None,
    },
    Lane {
        name: "dependencies",
        protects: "The guest half and the host half meet in the ABI and the ring, nowhere else.",
        stage: Stage::Check,
        needs: &[],
        steps: &[Step::Rule(dependencies::check)],
        limit: seconds(60),
        full: None,
    },
    Lane {
        name: "unsafe-ledger",
        protects: "Unsafe stays in its named places, and its count may only fall.",
        stage: Stage::Check,
        needs: &[],
        steps: &[Step::Rule(unsafe_ledger::check)],
        limit: seconds(60),
        full: None,
    },
    Lane {
        name: "file-length",
        protects: "A newcomer can read each file in one sitting.",
        stage: Stage::Check,
        needs: &[],
        steps: &[Step::Rule(file_length::check)],
        limit: seconds(60),
        full: None,
    },
    Lane {
        name: "licences",
        protects: "Nothing is linked whose licence or origin a guest kernel could not accept.",
        stage: Stage::Check,
        needs: &[Need::CargoDeny],
        steps: &[run("cargo deny check licenses bans sources")],
        limit: seconds(120),
        full: None,
    },
    Lane {
        name: "clippy",
        protects: "No warning lives in the host's crates, their tests and benches.",
        stage: Stage::Check,
        needs: &[Need::Clippy],
        steps: &[run("cargo clippy --workspace --exclude unikernel-image --all-targets -- -D warnings")],
        limit: seconds(600),
        full: None,
    },
    Lane {
        name: "clippy-guest",
        protects: "No warning lives in the guest image, and it builds without an operating system.",
        stage: Stage::Check,
        needs: &[Need::Clippy, Need::NoneTarget],
        steps: &[run("cargo clippy -p unikernel-image --target x86_64-unknown-none -- -D warnings")],
        limit: seconds(300),
        full: None,
    },
    Lane {
        name: "tests",
        protects: "Every crate does what its tests say, one by one.",
        stage: Stage::Test,
        needs: &[Need::Cc],
        steps: &[tests("cargo test --workspace --exclude unikernel-image --lib --bins --tests --no-fail-fast")],
        limit: seconds(900),
        full: None,
    },
    Lane {
        name: "documentation",
        protects: "The examples in the documentation compile and hold, and its links lead somewhere.",
        stage: Stage::Test,
        needs: &[],
        steps: &[
            run("cargo test --workspace --exclude unikernel-image --doc"),
            run_with("cargo doc --workspace --exclude unikernel-image --no-deps", &[("RUSTDOCFLAGS", "-D warnings")]),
        ],
        limit: seconds(600),
        full: None,
    },
    Lane {
        name: "loom",
        protects: "No interleaving of publish and sleep loses a wake-up; without the fence one does.",
        stage: Stage::Test,
        needs: &[],
        steps: &[tests_with(
            "cargo test -p pvkit-ring --release --test loom",
            &[("RUSTFLAGS", "--cfg loom"), ("CARGO_TARGET_DIR", "{target}/loom")],
        )],
        limit: seconds(600),
        full: None,
    },
    Lane {
        name: "miri",
        protects: "The shared-memory crate has no undefined behaviour: its proofs hold under Miri's eyes.",
        stage: Stage::Test,
        needs: &[Need::Miri],
        steps: &[tests_with(
            "cargo +nightly miri test -p pvkit-shared-memory --features std --lib --tests",
            &[("CARGO_TARGET_DIR", "{target}/miri")],
        )],
        limit: seconds(600),
        full: None,
    },
    Lane {
        name: "instructions",
        protects: "A request costs both halves of the ring no more than the 180 instructions promised.",
        stage: Stage::Test,
        needs: &[Need::Valgrind, Need::GungraunRunner],
        steps: &[run("cargo bench -p pvkit-ring --bench instructions")],
        limit: seconds(600),
        full: None,
    },
    Lane {
        name: "demo",
        protects: "The main job, whole: a guest on KVM reads files and keeps its log over being killed.",
        stage: Stage::Test,
        needs: &[Need::Kvm, Need::NoneTarget, Need::Mke2fs],
        steps: &[run("cargo run --release --quiet")],
        limit: seconds(600),
        full: None,
    },
];
