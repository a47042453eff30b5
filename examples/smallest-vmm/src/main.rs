//! The smallest virtual machine monitor, as a program.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match smallest_vmm::boot(std::env::args().skip(1), std::io::stdout()) {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("smallest-vmm: {error}");
            ExitCode::FAILURE
        }
    }
}
