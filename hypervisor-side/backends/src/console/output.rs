//! Writing to a sink that may not be ready.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(1);
/// Tries without a byte taken before the sink counts as stuck: about five seconds.
const TRIES: u32 = 5000;

/// Writes everything. A sink that is not ready is tried again for a while: whoever makes a terminal's input
/// non-blocking makes its output so too, because both are one open file.
pub(super) fn write_all(sink: &mut (impl Write + ?Sized), mut bytes: &[u8]) -> io::Result<()> {
    let mut tries = 0;
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(taken) => {
                bytes = bytes.get(taken..).unwrap_or(&[]);
                tries = 0;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && tries < TRIES => {
                tries += 1;
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
    flush(sink)
}

/// What a buffered sink held back goes the same way as the rest.
fn flush(sink: &mut (impl Write + ?Sized)) -> io::Result<()> {
    for _ in 0..TRIES {
        match sink.flush() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
    Err(ErrorKind::WouldBlock.into())
}
