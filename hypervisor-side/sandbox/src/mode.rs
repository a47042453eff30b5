//! How strictly a sandbox is kept.

use std::fmt;
use std::str::FromStr;

/// How strictly a sandbox is kept. Its words are `strict`, `log` and `off`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A system call that is not listed ends the process (`SIGSYS`); what must be given up and cannot be is an error.
    #[default]
    Strict,
    /// A system call that is not listed is done, and the kernel logs it. The rest (capabilities, files, namespaces, limits)
    /// is given up as in `strict`, for it knows no logging; what cannot be given up is in the report and no error.
    Log,
    /// Nothing is given up.
    Off,
}

/// Not one of the words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownMode(String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(word: &str) -> Result<Self, UnknownMode> {
        match word {
            "strict" => Ok(Self::Strict),
            "log" => Ok(Self::Log),
            "off" => Ok(Self::Off),
            other => Err(UnknownMode(other.to_owned())),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::Log => "log",
            Self::Off => "off",
        })
    }
}

impl fmt::Display for UnknownMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no sandbox mode; say strict, log or off", self.0)
    }
}

impl std::error::Error for UnknownMode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_lead_there_and_back() {
        for mode in [Mode::Strict, Mode::Log, Mode::Off] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
    }

    #[test]
    fn another_word_is_refused_by_name() {
        let error = "Strict".parse::<Mode>().unwrap_err();
        assert_eq!(error.to_string(), "\"Strict\" is no sandbox mode; say strict, log or off");
    }
}
