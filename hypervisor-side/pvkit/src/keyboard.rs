//! Standard input to the guest's console, minus the keys that are meant for pvkit.

use crate::cli::CONSOLE_KEYS;
use crate::escape::{Escape, Key};
use pvkit_backends::ConsoleInput;
use std::io::{self, Read};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Bytes typed and not yet read by the guest.
const LIMIT: usize = 64 * 1024;
/// How often a full input is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// Starts to read standard input, on a thread that ends with the process. With `keys` Ctrl-a is looked for; Ctrl-a x
/// calls `leave`.
///
/// # Errors
/// No thread or no eventfd is to be had.
pub fn listen(keys: bool, leave: impl Fn() + Send + 'static) -> io::Result<Arc<ConsoleInput>> {
    let input = ConsoleInput::new(LIMIT)?;
    let to_guest = Arc::clone(&input);
    thread::Builder::new().name("keyboard".into()).spawn(move || {
        let mut escape = keys.then(Escape::default);
        let mut typed = [0; 1024];
        while let Ok(length @ 1..) = io::stdin().read(&mut typed) {
            let typed = typed.get(..length).unwrap_or_default();
            match &mut escape {
                None => push_all(&to_guest, typed),
                Some(escape) => push_all(&to_guest, &sort_keys(escape, typed, &leave)),
            }
        }
        to_guest.end();
    })?;
    Ok(input)
}

/// An input that has ended before it began.
///
/// # Errors
/// No eventfd is to be had.
pub fn nobody() -> io::Result<Arc<ConsoleInput>> {
    let input = ConsoleInput::new(0)?;
    input.end();
    Ok(input)
}

/// Carries out the keys for pvkit and answers those for the guest.
fn sort_keys(escape: &mut Escape, typed: &[u8], leave: &impl Fn()) -> Vec<u8> {
    let mut for_guest = Vec::with_capacity(typed.len());
    for byte in typed {
        match escape.key(*byte) {
            Key::Guest(byte) => for_guest.push(byte),
            Key::Leave => leave(),
            Key::Help => eprintln!("\n{CONSOLE_KEYS}"),
            Key::Nothing => {}
        }
    }
    for_guest
}

/// Waits where the guest reads more slowly than we are typed to: a pipe then waits too.
fn push_all(input: &ConsoleInput, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let taken = input.push(bytes);
        bytes = bytes.get(taken..).unwrap_or_default();
        if !bytes.is_empty() {
            thread::sleep(RETRY);
        }
    }
}
