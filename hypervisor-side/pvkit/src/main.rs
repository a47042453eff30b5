//! The `pvkit` program. Everything it does is in the library, where tests reach it.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    pvkit::main()
}
