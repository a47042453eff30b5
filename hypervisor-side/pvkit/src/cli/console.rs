//! `--console`: where the guest's console goes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the guest's console goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsoleOption {
    /// Standard input and output.
    Stdio,
    /// Nowhere.
    Null,
    /// Output to a file, which is emptied first; no input.
    File(PathBuf),
}

/// Why a console was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleOptionError(String);

impl fmt::Display for ConsoleOptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown console `{}`; write stdio, null or file=PATH", self.0)
    }
}

impl std::error::Error for ConsoleOptionError {}

impl FromStr for ConsoleOption {
    type Err = ConsoleOptionError;

    fn from_str(text: &str) -> Result<Self, ConsoleOptionError> {
        match text {
            "stdio" => Ok(Self::Stdio),
            "null" => Ok(Self::Null),
            _ => match text.strip_prefix("file=") {
                Some(path) if !path.is_empty() => Ok(Self::File(path.into())),
                _ => Err(ConsoleOptionError(text.into())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_words_are_understood() {
        assert_eq!("stdio".parse(), Ok(ConsoleOption::Stdio));
        assert_eq!("null".parse(), Ok(ConsoleOption::Null));
        assert_eq!("file=a,b".parse(), Ok(ConsoleOption::File("a,b".into())));
    }

    #[test]
    fn other_words_are_named() {
        for text in ["", "tty", "file=", "off"] {
            let message = text.parse::<ConsoleOption>().expect_err(text).to_string();
            assert!(message.contains(&format!("`{text}`")) && message.contains("file=PATH"), "{message}");
        }
    }
}
