//! Rules of the tree that no compiler keeps: who may depend on whom, where unsafe may stand, how long a file may be.

pub mod dependencies;
pub mod file_length;
mod sources;
pub mod unsafe_ledger;
