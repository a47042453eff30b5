//! The stock Debian kernels of the lane, by their metapackages: Debian drops old versions, so none is named here.

/// One line of Debian's kernels.
#[derive(Debug)]
pub struct Kernel {
    /// As scenarios and the command line call it.
    pub name: &'static str,
    /// Depends on the newest image.
    pub image: &'static str,
    /// Depends on the newest headers.
    pub headers: &'static str,
}

/// What the first virtual machine runs, and the first that a guest is tried with.
pub const CLOUD: &Kernel =
    &Kernel { name: "6.1-cloud", image: "linux-image-cloud-amd64", headers: "linux-headers-cloud-amd64" };
/// The one for ordinary machines.
pub const GENERIC: &Kernel = &Kernel { name: "6.1", image: "linux-image-amd64", headers: "linux-headers-amd64" };
/// The newest long-term line that Debian has for the stable release.
pub const NEWER_CLOUD: &Kernel =
    &Kernel { name: "6.12-cloud", image: "linux-image-6.12-cloud-amd64", headers: "linux-headers-6.12-cloud-amd64" };

/// Built here, from Debian's source (`builds.rs`); no package has it: one that looks after itself.
pub const CHECKED: &Kernel = &Kernel { name: "6.1-checked", image: "", headers: "" };
/// A small one.
pub const SMALL: &Kernel = &Kernel { name: "6.1-small", image: "", headers: "" };
/// The same with pvkit's patches, and its drivers built in.
pub const PATCHED: &Kernel = &Kernel { name: "6.1-pvkit", image: "", headers: "" };

/// All that Debian has.
pub const KERNELS: [&Kernel; 3] = [CLOUD, GENERIC, NEWER_CLOUD];
/// All that are built here.
pub const BUILT: [&Kernel; 3] = [CHECKED, SMALL, PATCHED];
