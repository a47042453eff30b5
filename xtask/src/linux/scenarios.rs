//! The scenarios, as data. To add one, add an entry and its script.

use super::guest::{Guest, Root};
use super::kernels::{CHECKED, CLOUD, GENERIC, KERNELS, Kernel, NEWER_CLOUD, PATCHED, SMALL};
use super::payload::Part;
use super::scenario::Scenario;
use super::tools::TOOLS;
use crate::lane::seconds;

/// What a machine with guests of its own loads.
const KVM: &[&str] = &["kvm-amd"];

/// What a machine loads whose guests' disks are looked at from outside, and whose guests have a TAP.
pub const GUESTS: &[&str] = &["kvm-amd", "loop", "tun", "crc32c_generic"];

/// A driver for QEMU's test device, which every machine has.
const FIXTURE: &str = "xtask/src/linux/fixtures/hello_pci";

/// The stock kernels with a virtio disk and network card.
const BASELINE: &Guest = &Guest {
    name: "baseline",
    kernels: &KERNELS,
    modules: &["virtio_pci", "virtio_blk", "virtio_net"],
    drivers: &[],
    programs: &[],
    script: include_str!("scripts/baseline_guest.sh"),
    root: Root::Archive,
};

/// The stock kernels on pvkit's own machine.
const STOCK: &Guest = &Guest {
    name: "stock",
    kernels: &KERNELS,
    modules: &[],
    drivers: &[],
    programs: &[],
    script: include_str!("scripts/stock_guest.sh"),
    root: Root::Archive,
};

/// The drivers of pvkit's devices.
const DRIVER: &str = "guest-drivers/linux";

/// The stock kernels with pvkit's modules.
const MODULE: &Guest = &Guest {
    name: "module",
    kernels: &KERNELS,
    modules: &["ext4", "crc32c_generic"],
    drivers: &[DRIVER],
    programs: &["xtask/src/linux/fixtures/kexec.c"],
    script: include_str!("scripts/module_guest.sh"),
    root: Root::Archive,
};

/// The stock kernels with pvkit's network devices.
const NETWORK: &Guest = &Guest {
    name: "net",
    kernels: &KERNELS,
    modules: &["ext4", "crc32c_generic"],
    drivers: &[DRIVER],
    programs: &[],
    script: include_str!("scripts/net_guest.sh"),
    root: Root::Archive,
};

/// A stock kernel whose host lies.
const HOSTILE: &Guest = &Guest {
    name: "hostile",
    kernels: &[CLOUD],
    modules: &[],
    drivers: &[DRIVER],
    programs: &[],
    script: concat!(include_str!("scripts/hostile_guest.sh"), include_str!("scripts/hostile_lies.sh")),
    root: Root::Archive,
};

/// The same on the kernel that looks after itself.
const HOSTILE_CHECKED: &Guest = &Guest { kernels: &[CHECKED], ..*HOSTILE };

/// A stock kernel and a small one, which bring their files along.
const BOOT: &Guest = &Guest {
    name: "boot",
    kernels: &[CLOUD, SMALL],
    modules: &[],
    drivers: &[],
    programs: &[],
    script: include_str!("scripts/boot_guest.sh"),
    root: Root::Archive,
};

/// The small one with pvkit's patches, which has its files on a disk.
const BOOT_PATCHED: &Guest = &Guest { kernels: &[PATCHED], root: Root::Disk, ..*BOOT };

/// One stock kernel with both drivers of disks.
const COMPARE: &Guest = &Guest {
    name: "compare",
    kernels: &[CLOUD],
    modules: &["ext4", "crc32c_generic", "virtio_pci", "virtio_blk"],
    drivers: &[DRIVER],
    programs: &[],
    script: include_str!("scripts/compare_guest.sh"),
    root: Root::Archive,
};

/// One stock kernel with both drivers of network cards.
const COMPARE_NET: &Guest = &Guest {
    name: "compare-net",
    kernels: &[CLOUD],
    modules: &["ext4", "crc32c_generic", "virtio_pci", "virtio_blk", "virtio_net"],
    drivers: &[DRIVER],
    programs: &[],
    script: include_str!("scripts/compare_net_guest.sh"),
    root: Root::Archive,
};

/// What scenarios with guests have in common that run by name, or with `--full`; what is empty is each one's own.
const BY_NAME: Scenario = Scenario {
    name: "",
    protects: "",
    kernel: CLOUD,
    modules: GUESTS,
    script: "",
    parts: &[],
    limit: seconds(0),
    natively: true,
    full: true,
};

/// Every scenario, in the order they run.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kvm-amd",
        protects: "The unikernel's guests do on the kernel's own kvm_amd what they do elsewhere, at CPL 3 and CPL 0.",
        kernel: CLOUD,
        modules: KVM,
        script: include_str!("scripts/kvm_amd.sh"),
        parts: &[Part::Pvkit, Part::Tests(&["kvm_tiny", "kvm_app"])],
        limit: seconds(600),
        natively: false,
        full: false,
    },
    driver("driver-6.1-cloud", CLOUD),
    driver("driver-6.1", GENERIC),
    driver("driver-6.12-cloud", NEWER_CLOUD),
    Scenario {
        name: "stock",
        protects: "Each stock kernel comes to user space on pvkit's machine on kvm_amd, and powers off.",
        kernel: CLOUD,
        modules: KVM,
        script: include_str!("scripts/stock.sh"),
        parts: &[Part::Pvkit, Part::Guests(&[STOCK])],
        limit: seconds(600),
        natively: true,
        full: false,
    },
    Scenario {
        name: "module",
        protects: "pvkit's modules build without a warning for each stock kernel, and its disks and consoles work in it.",
        kernel: CLOUD,
        modules: GUESTS,
        script: concat!(include_str!("scripts/module.sh"), include_str!("scripts/module_disk.sh")),
        parts: &[Part::Pvkit, Part::Tools(TOOLS), Part::Guests(&[MODULE])],
        limit: seconds(1200),
        natively: true,
        full: false,
    },
    Scenario {
        name: "domain",
        protects: "A stock kernel with a mounted file system survives its disk's daemon being killed while it writes.",
        kernel: CLOUD,
        modules: GUESTS,
        script: concat!(include_str!("scripts/module.sh"), include_str!("scripts/domain.sh")),
        parts: &[Part::Pvkit, Part::Tools(TOOLS), Part::Guests(&[MODULE])],
        limit: seconds(900),
        natively: true,
        full: false,
    },
    Scenario {
        name: "domain-long",
        protects: "The same over a hundred kills.",
        script: concat!("KILLS=100\n", include_str!("scripts/module.sh"), include_str!("scripts/domain.sh")),
        parts: &[Part::Pvkit, Part::Tools(TOOLS), Part::Guests(&[MODULE])],
        limit: seconds(2400),
        ..BY_NAME
    },
    Scenario {
        name: "net",
        protects: "Each stock kernel's frames pass whole and in both directions, by each offload and without, in RAM and a window.",
        script: include_str!("scripts/net.sh"),
        parts: &[Part::Pvkit, Part::Tools(TOOLS), Part::Guests(&[NETWORK])],
        limit: seconds(1800),
        ..BY_NAME
    },
    Scenario {
        name: "module-net",
        protects: "pvkit's network cards work in each stock kernel: both ways, with the host's offloads and without.",
        kernel: CLOUD,
        modules: GUESTS,
        script: concat!(include_str!("scripts/module.sh"), include_str!("scripts/module_net.sh")),
        parts: &[Part::Pvkit, Part::Tools(TOOLS), Part::Guests(&[MODULE])],
        limit: seconds(900),
        natively: true,
        full: false,
    },
    Scenario {
        name: "module-long",
        protects: "Drivers of disks that go under load and come back, fifty times.",
        script: concat!(
            include_str!("scripts/module.sh"),
            "ROUNDS=50 WAITS='1 2 4 6 8'\n",
            include_str!("scripts/module_disk.sh")
        ),
        parts: &[Part::Pvkit, Part::Tools(TOOLS), Part::Guests(&[MODULE])],
        limit: seconds(1800),
        ..BY_NAME
    },
    Scenario {
        name: "module-net-long",
        protects: "A thousand short connections to each kernel, and cards whose driver goes and comes back fifty times.",
        script: concat!(
            include_str!("scripts/module.sh"),
            "ROUNDS=50 CONNECTIONS=1000\n",
            include_str!("scripts/module_net.sh")
        ),
        parts: &[Part::Pvkit, Part::Tools(TOOLS), Part::Guests(&[MODULE])],
        limit: seconds(1800),
        ..BY_NAME
    },
    Scenario {
        name: "hostile",
        protects: "A host that lies costs a stock kernel the device that it lies about, never the kernel.",
        script: include_str!("scripts/hostile.sh"),
        parts: &[Part::Mutants, Part::Guests(&[HOSTILE])],
        limit: seconds(330),
        ..BY_NAME
    },
    Scenario {
        name: "hostile-long",
        protects: "Every way to lie that is known, and random ones, costs a stock kernel the device at most.",
        script: concat!("LIES=full LIMIT=1500\n", include_str!("scripts/hostile.sh")),
        parts: &[Part::Mutants, Part::Guests(&[HOSTILE])],
        limit: seconds(1600),
        ..BY_NAME
    },
    Scenario {
        name: "hostile-window",
        protects: "The same, and lies about the end of an epoch, where the host can reach a window alone.",
        script: concat!("WORDS='--window 64M' LIES=full LIMIT=1500\n", include_str!("scripts/hostile.sh")),
        parts: &[Part::Mutants, Part::Guests(&[HOSTILE])],
        limit: seconds(1600),
        ..BY_NAME
    },
    Scenario {
        name: "hostile-window-checked",
        protects: "Lies about the end of an epoch and messages of no sense under KASAN, where the host can reach a window alone.",
        script: concat!(
            "KERNEL=6.1-checked MEMORY=512M WORDS='--window 64M' LIES=epoch,message LIMIT=1500\n",
            include_str!("scripts/hostile.sh")
        ),
        parts: &[Part::Mutants, Part::Guests(&[HOSTILE_CHECKED])],
        limit: seconds(1600),
        ..BY_NAME
    },
    Scenario {
        name: "hostile-checked",
        protects: "The same lies under KASAN, lockdep and kmemleak: no byte out of place, no lock in the wrong order.",
        script: concat!("KERNEL=6.1-checked MEMORY=512M LIES=full LIMIT=3000\n", include_str!("scripts/hostile.sh")),
        parts: &[Part::Mutants, Part::Guests(&[HOSTILE_CHECKED])],
        limit: seconds(3100),
        ..BY_NAME
    },
    Scenario {
        name: "patched",
        protects: "The kernel with pvkit's patches: its root on a disk, its early console, its end; and what booting it costs.",
        script: include_str!("scripts/patched.sh"),
        parts: &[Part::Pvkit, Part::Guests(&[BOOT, BOOT_PATCHED])],
        limit: seconds(600),
        ..BY_NAME
    },
    Scenario {
        name: "compare",
        protects: "What a request to a disk costs on pvkit and on QEMU's virtio is known, side by side.",
        modules: KVM,
        script: concat!(include_str!("scripts/compare_words.sh"), include_str!("scripts/compare.sh")),
        parts: &[Part::Pvkit, Part::Qemu, Part::Tools(TOOLS), Part::Guests(&[COMPARE])],
        limit: seconds(600),
        ..BY_NAME
    },
    Scenario {
        name: "compare-net",
        protects: "What a frame costs on pvkit and on QEMU's virtio is known, side by side.",
        script: concat!(include_str!("scripts/compare_words.sh"), include_str!("scripts/compare_net.sh")),
        parts: &[Part::Pvkit, Part::Qemu, Part::Tools(TOOLS), Part::Guests(&[COMPARE_NET])],
        limit: seconds(600),
        ..BY_NAME
    },
    Scenario {
        name: "compare-long",
        protects: "The same on disks, five times in turn.",
        modules: KVM,
        script: concat!("ROUNDS=5\n", include_str!("scripts/compare_words.sh"), include_str!("scripts/compare.sh")),
        parts: &[Part::Pvkit, Part::Qemu, Part::Tools(TOOLS), Part::Guests(&[COMPARE])],
        limit: seconds(2400),
        ..BY_NAME
    },
    Scenario {
        name: "compare-net-long",
        protects: "The same on network cards, five times in turn.",
        script: concat!("ROUNDS=5\n", include_str!("scripts/compare_words.sh"), include_str!("scripts/compare_net.sh")),
        parts: &[Part::Pvkit, Part::Qemu, Part::Tools(TOOLS), Part::Guests(&[COMPARE_NET])],
        limit: seconds(2400),
        ..BY_NAME
    },
    Scenario {
        name: "baseline",
        protects: "Each stock kernel runs as a guest of QEMU with virtio on kvm_amd, and what that costs is known.",
        kernel: CLOUD,
        modules: KVM,
        script: include_str!("scripts/baseline.sh"),
        parts: &[Part::Qemu, Part::Guests(&[BASELINE])],
        limit: seconds(600),
        natively: true,
        full: false,
    },
];

const fn driver(name: &'static str, kernel: &'static Kernel) -> Scenario {
    Scenario {
        name,
        protects: "A module in C builds without a warning against the stock headers, loads, probes and unloads.",
        kernel,
        // The results disk needs it where it is not built in.
        modules: &["nvme"],
        script: include_str!("scripts/fixture.sh"),
        parts: &[Part::Driver(FIXTURE)],
        limit: seconds(60),
        natively: false,
        full: false,
    }
}
