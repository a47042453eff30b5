//! Sizes on the command line: a number with an optional K, M, G or T, powers of 1024.

use std::fmt;
use std::str::FromStr;

/// A number of bytes as the user wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// Why a size was not understood. Names the text and shows a good one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SizeError {
    /// Nothing there.
    Empty,
    /// Not digits followed by one unit.
    NotANumber(String),
    /// A negative number.
    Negative(String),
    /// More than 2^64 - 1 bytes.
    TooLarge(String),
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the size is empty; write for example 512M"),
            Self::NotANumber(text) => {
                write!(f, "`{text}` is not a size; write a whole number with K, M, G or T, for example 512M")
            }
            Self::Negative(text) => write!(f, "the size `{text}` is negative; write for example 512M"),
            Self::TooLarge(text) => write!(f, "the size `{text}` does not fit into 64 bits; write for example 512M"),
        }
    }
}

impl std::error::Error for SizeError {}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        if text.is_empty() {
            return Err(SizeError::Empty);
        }
        if text.starts_with('-') {
            return Err(SizeError::Negative(text.into()));
        }
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let shift = unit_shift(unit).ok_or_else(|| SizeError::NotANumber(text.into()))?;
        if digits.is_empty() {
            return Err(SizeError::NotANumber(text.into()));
        }
        let number: u64 = digits.parse().map_err(|_| SizeError::TooLarge(text.into()))?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(|| SizeError::TooLarge(text.into()))
    }
}

/// Bits to shift by for a unit's letter; `KiB` and the like are taken too.
fn unit_shift(unit: &str) -> Option<u32> {
    match unit {
        "" | "B" => Some(0),
        "K" | "k" | "KiB" => Some(10),
        "M" | "m" | "MiB" => Some(20),
        "G" | "g" | "GiB" => Some(30),
        "T" | "t" | "TiB" => Some(40),
        _ => None,
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in [("7", 7), ("3K", 3 << 10), ("512M", 512 << 20), ("2g", 2 << 30), ("1TiB", 1 << 40)] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for text in ["", "M", "12X", "1.5G", "-1M", "0x10", "99999999999T", "18446744073709551616", "5 M", "٣M"] {
            let error = text.parse::<Size>().expect_err(text);
            assert!(error.to_string().contains(text) && error.to_string().contains("512M"), "{error}");
        }
    }

    #[test]
    fn a_size_is_shown_in_its_largest_whole_unit() {
        assert_eq!(Size(512 << 20).to_string(), "512M");
        assert_eq!(Size(1536 << 10).to_string(), "1536K");
        assert_eq!(Size(0).to_string(), "0 bytes");
    }
}
