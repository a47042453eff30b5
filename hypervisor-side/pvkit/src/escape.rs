//! Ctrl-a on the console: the keys that are meant for pvkit and not for the guest.

const CTRL_A: u8 = 0x01;
const CTRL_C: u8 = 0x03;

/// What a typed byte means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// For the guest.
    Guest(u8),
    /// Leave pvkit.
    Leave,
    /// Show the keys.
    Help,
    /// The first half of a pair, or a pair that means nothing.
    Nothing,
}

/// Remembers whether the last byte was Ctrl-a.
#[derive(Debug, Default)]
pub struct Escape {
    armed: bool,
}

impl Escape {
    /// Judges the next typed byte.
    pub fn key(&mut self, byte: u8) -> Key {
        if !self.armed {
            self.armed = byte == CTRL_A;
            return if self.armed { Key::Nothing } else { Key::Guest(byte) };
        }
        self.armed = false;
        match byte {
            b'x' | b'X' => Key::Leave,
            b'h' | b'?' => Key::Help,
            b'c' => Key::Guest(CTRL_C),
            CTRL_A | b'a' => Key::Guest(CTRL_A),
            _ => Key::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(typed: &[u8]) -> Vec<Key> {
        let mut escape = Escape::default();
        typed.iter().map(|byte| escape.key(*byte)).collect()
    }

    #[test]
    fn plain_bytes_go_to_the_guest() {
        assert_eq!(keys(b"x\x03"), [Key::Guest(b'x'), Key::Guest(3)]);
    }

    #[test]
    fn ctrl_a_makes_the_next_byte_a_command() {
        assert_eq!(keys(b"\x01x"), [Key::Nothing, Key::Leave]);
        assert_eq!(keys(b"\x01\x01x"), [Key::Nothing, Key::Guest(1), Key::Guest(b'x')]);
        assert_eq!(keys(b"\x01h\x01c"), [Key::Nothing, Key::Help, Key::Nothing, Key::Guest(3)]);
        assert_eq!(keys(b"\x01qx"), [Key::Nothing, Key::Nothing, Key::Guest(b'x')]);
    }
}
