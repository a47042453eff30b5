//! The terminal's mode while a guest owns it, and the way back.
//!
//! *Invariant.* The mode found at the start is put back exactly once, by whoever comes first: the guard's drop (return
//! or panic), or [`restore`] from the signal thread before it ends the process.

use rustix::termios::{InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios};
use std::io;
use std::sync::{Mutex, PoisonError};

/// The mode to go back to, while it differs.
static FOUND: Mutex<Option<Termios>> = Mutex::new(None);

/// While it lives, typed bytes come one by one and without echo.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Switches standard input's terminal, or does nothing where it is not one.
    ///
    /// # Errors
    /// The terminal refuses to tell or to change its mode.
    pub fn enter() -> io::Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        if !rustix::termios::isatty(stdin) {
            return Ok(None);
        }
        let found = rustix::termios::tcgetattr(stdin)?;
        rustix::termios::tcsetattr(stdin, OptionalActions::Now, &guest_mode(&found))?;
        *FOUND.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Ok(Some(Self(())))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts back the mode found by [`RawMode::enter`], if that has not been done yet.
pub fn restore() {
    if let Some(found) = FOUND.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &found);
    }
}

/// Raw, except that newlines are still expanded and Ctrl-c still is a signal: the one key that always leaves.
fn guest_mode(found: &Termios) -> Termios {
    let mut mode = found.clone();
    mode.input_modes
        .remove(InputModes::IGNBRK | InputModes::BRKINT | InputModes::INLCR | InputModes::IGNCR | InputModes::ISTRIP);
    mode.input_modes.remove(InputModes::IXON | InputModes::PARMRK);
    mode.output_modes.insert(OutputModes::OPOST);
    mode.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::IEXTEN);
    mode.local_modes.insert(LocalModes::ISIG);
    for unused in [SpecialCodeIndex::VSUSP, SpecialCodeIndex::VQUIT] {
        mode.special_codes[unused] = 0;
    }
    mode.special_codes[SpecialCodeIndex::VMIN] = 1;
    mode.special_codes[SpecialCodeIndex::VTIME] = 0;
    mode
}

/// Columns and rows of standard output, zeros where it is not a terminal.
#[must_use]
pub fn window() -> (u16, u16) {
    rustix::termios::tcgetwinsize(rustix::stdio::stdout()).map_or((0, 0), |size| (size.ws_col, size.ws_row))
}
