//! What a scenario is: a script with a machine around it.

use super::kernels::Kernel;
use super::payload::Part;
use std::time::Duration;

/// One scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Short and unique; `--only` takes it.
    pub name: &'static str,
    /// One sentence: what would be lost without it.
    pub protects: &'static str,
    /// The kernel of the machine.
    pub kernel: &'static Kernel,
    /// What that kernel loads first, with dependencies; what is built in does not matter.
    pub modules: &'static [&'static str],
    /// What the machine runs; status 0 is success.
    pub script: &'static str,
    /// What the script wants beside it.
    pub parts: &'static [Part],
    /// Hard limit for the script.
    pub limit: Duration,
    /// Whether it may run without the machine around it, where the developer's KVM boots stock kernels.
    pub natively: bool,
    /// Whether it runs only with `--full`.
    pub full: bool,
}
