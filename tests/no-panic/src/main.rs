//! Every function of the ring's two halves, in an image that links only if none of them can panic.
//!
//! *Purpose.* A peer must not be able to stop a guest or a backend. Tests show this for what they try; here the optimiser
//! has seen, with nothing known of any argument, of any half's state and of any shared word, that no path leads to a panic.
//!
//! *How.* The halves and all arguments come from callers that nobody knows: each function here is kept for the linker.
//! `no-panic.ld` throws the panic handler away, and the linker refuses an image that still refers to it.
//!
//! *Not here.* That no sum overflows: the profile wraps, as the guest's does. The walks and the fuzz targets check sums.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
mod image;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is to be linked, not run: cargo test -p pvkit-no-panic");
}
