//! A disk that is asked again where it answers with an error; each such answer is a line.

use crate::lasting::Door;
use crate::session::deadline;
use crate::terminal::Terminal;
use pvkit_guest_drivers::block::Geometry;
use pvkit_guest_drivers::error::RequestError;
use pvkit_guest_drivers::platform::Platform;

/// How often one request is asked for with `errors=retry`.
const TRIES: u32 = 16;

/// A door that is knocked at more than once.
pub(crate) struct Stubborn<'a, 'p, D, P: Platform> {
    door: &'a mut D,
    platform: &'p P,
    terminal: &'a mut Terminal<'p, P>,
    tries: u32,
}

impl<'a, 'p, D: Door, P: Platform> Stubborn<'a, 'p, D, P> {
    pub(crate) const fn new(door: &'a mut D, platform: &'p P, terminal: &'a mut Terminal<'p, P>, retry: bool) -> Self {
        Self { door, platform, terminal, tries: if retry { TRIES } else { 1 } }
    }

    /// The same request each time: what a flush was asked for is not written again.
    fn ask(
        &mut self,
        what: &str,
        mut act: impl FnMut(&mut D, u64) -> Result<(), RequestError>,
    ) -> Result<(), RequestError> {
        let mut result = Ok(());
        for _ in 0..self.tries {
            result = act(self.door, deadline(self.platform));
            let Err(error @ RequestError::Io { .. }) = result else { return result };
            self.terminal.line(format_args!("failed {what}: {error}"));
        }
        result
    }
}

impl<D: Door, P: Platform> Door for Stubborn<'_, '_, D, P> {
    fn geometry(&self) -> &Geometry {
        self.door.geometry()
    }

    fn read(&mut self, position: u64, into: &mut [u8], _: u64) -> Result<(), RequestError> {
        self.ask("read", |door, deadline| door.read(position, into, deadline))
    }

    fn write(&mut self, position: u64, from: &[u8], _: u64) -> Result<(), RequestError> {
        self.ask("write", |door, deadline| door.write(position, from, deadline))
    }

    fn write_fua(&mut self, position: u64, from: &[u8], _: u64) -> Result<(), RequestError> {
        self.ask("write", |door, deadline| door.write_fua(position, from, deadline))
    }

    fn flush(&mut self, _: u64) -> Result<(), RequestError> {
        self.ask("flush", |door, deadline| door.flush(deadline))
    }
}
