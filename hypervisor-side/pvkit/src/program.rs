//! What the in-process machine runs: the demo application, linked in.

use pvkit_machine::{InProcessPlatform, Program};

/// The application as a program.
///
/// # Errors
/// None in this build.
pub fn in_process() -> Result<Program, &'static str> {
    Ok(Program::InProcess(application))
}

fn application(platform: &InProcessPlatform, cmdline: &str) -> i32 {
    unikernel_app::run(platform, cmdline)
}
