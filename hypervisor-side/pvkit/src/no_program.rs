//! A build without the demo application has nothing for the in-process machine.

use pvkit_machine::Program;

/// Says what to do instead.
///
/// # Errors
/// Always.
pub fn in_process() -> Result<Program, &'static str> {
    Err("this build has no application for the in-process machine; build it with the feature in-process")
}
