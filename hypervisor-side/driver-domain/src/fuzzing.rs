//! What the fuzz targets use besides the public doors. No part of the library's interface.

pub use crate::client::fuzzing::{Answers, backend, covers, greet};
pub use crate::daemon::fuzzing::Served;
