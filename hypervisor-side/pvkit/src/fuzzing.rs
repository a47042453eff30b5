//! What the fuzz targets use besides the public doors. No part of the library's interface.

use crate::api::question::Question;
use crate::cli::{ConsoleOption, DiskOption, Mac, NetOption, PublishOption, Size};
use std::str::FromStr;

/// Words that stand behind an option: understood, and how it is shown if that is how it may be written; or why not.
///
/// # Errors
/// What is told to the user.
pub fn option(name: &str, text: &str) -> Result<Option<String>, String> {
    fn parse<T: FromStr<Err: ToString>>(text: &str) -> Result<Option<String>, String> {
        T::from_str(text).map(|_| None).map_err(|error| error.to_string())
    }
    match name {
        "disk" => parse::<DiskOption>(text),
        "net" => parse::<NetOption>(text),
        "publish" => parse::<PublishOption>(text),
        "memory" => parse::<Size>(text),
        "mac" => Mac::from_str(text).map(|mac| Some(mac.to_string())).map_err(|error| error.to_string()),
        "console" => parse::<ConsoleOption>(text),
        other => Err(format!("no option {other}")),
    }
}

/// A line that came to the socket of a run: what it would be if it was sent again, or why it is none.
///
/// # Errors
/// What is answered.
pub fn api_line(line: &[u8]) -> Result<Vec<u8>, String> {
    Question::parse(line).map(|question| question.emit().to_string().into_bytes())
}
