//! Capabilities: all sets, for ever.

use crate::lock_down::Attempt;
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities,
};

/// Empties the bounding set, so that no program could gain one by being run. That takes `CAP_SETPCAP`; without it
/// no-new-privileges still prevents the same.
pub(crate) fn drop_bounding() -> Attempt {
    // A set has 64 bits; the kernel says where its last capability is.
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            Err(Errno::INVAL) if bit > 0 => return Ok(String::new()),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(String::new())
}

/// Empties the ambient, effective, permitted and inheritable sets of this thread, and looks whether they are empty.
pub(crate) fn drop_all() -> Attempt {
    clear_ambient_capability_set().map_err(|error| format!("ambient: {error}"))?;
    let none = CapabilitySet::empty();
    let empty = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, empty).map_err(|error| error.to_string())?;
    match capabilities(None) {
        Ok(left) if left == empty => Ok("none left".into()),
        answer => Err(format!("asked again, the kernel says {answer:?}")),
    }
}
