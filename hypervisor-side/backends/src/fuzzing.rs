//! What the fuzz targets use besides the public doors. No part of the library's interface.

pub use crate::fake_guest::{ALL, Ask, Guest, MOST, READ_ONLY, WRITE_ONLY, connect, place};
pub use crate::net::fuzzing::{name_failure, name_servers, open_steering, passt_stream, tap_frame};
