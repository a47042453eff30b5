//! What the in-process machine runs: the demo application, linked in.

use pvkit_machine::Program;

/// The application as a program.
///
/// # Errors
/// None in this build.
pub fn in_process() -> Result<Program, &'static str> {
    Ok(Program::InProcess(unikernel_hosted::main))
}
