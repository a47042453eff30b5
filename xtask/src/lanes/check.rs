//! The quick minute: format, lints, the rules of the tree.

use crate::checks::{dependencies, file_length, unsafe_ledger};
use crate::lane::{Lane, Stage, Step, run, seconds};
use crate::need::Need;

/// In the order they run.
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
        steps: &[
            run("cargo clippy --workspace --exclude unikernel-image --all-targets --all-features -- -D warnings"),
            run("cargo clippy -p pvkit-guest-drivers --no-default-features -- -D warnings"),
            run("cargo clippy -p pvkit-guest-drivers --no-default-features --features async -- -D warnings"),
            run("cargo clippy -p pvkit-guest-drivers --no-default-features --features embedded-io -- -D warnings"),
            run("cargo clippy -p pvkit --no-default-features -- -D warnings"),
        ],
        limit: seconds(600),
        full: None,
    },
    Lane {
        name: "clippy-guest",
        protects: "No warning lives in the guest images, and they build without an operating system.",
        stage: Stage::Check,
        needs: &[Need::Clippy, Need::NoneTarget],
        steps: &[run("cargo clippy -p unikernel-image -p pvkit-no-panic --target x86_64-unknown-none -- -D warnings")],
        limit: seconds(300),
        full: None,
    },
];
