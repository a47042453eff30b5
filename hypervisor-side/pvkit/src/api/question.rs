//! What can be asked.

use super::VERSION;
use clap::ValueEnum;
use pvkit_abi::services::ServiceKind;
use serde_json::{Value, json};
use std::time::Duration;

/// A question to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Everything about the guest.
    Inspect,
    /// Something of the guest's kernel, which answers within this time or not at all.
    Ask(Verb, Duration),
}

/// What can be asked of a guest's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Verb {
    /// Power off in good order
    Shutdown,
    /// Restart in good order
    Reboot,
    /// Make file systems consistent and hold writes back, until thaw or until the time is over
    Freeze,
    /// Let writes go on
    Thaw,
    /// Take the host's wall clock
    TimeSync,
    /// Say that it is alive
    Heartbeat,
    /// Take note that the machine is a copy: draw fresh random numbers
    Generation,
}

impl Verb {
    /// The word on the wire and on the command line.
    #[must_use]
    pub fn word(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The event by which the guest hears of it.
    #[must_use]
    pub const fn kind(self) -> ServiceKind {
        match self {
            Self::Shutdown => ServiceKind::SHUTDOWN,
            Self::Reboot => ServiceKind::REBOOT,
            Self::Freeze => ServiceKind::FREEZE,
            Self::Thaw => ServiceKind::THAW,
            Self::TimeSync => ServiceKind::TIME_SYNC,
            Self::Heartbeat => ServiceKind::HEARTBEAT,
            Self::Generation => ServiceKind::GENERATION,
        }
    }
}

/// Longest time that a guest may be given.
pub const MOST_PATIENCE: Duration = Duration::from_secs(3600);

impl Question {
    /// As it goes over the socket.
    #[must_use]
    pub fn emit(self) -> Value {
        match self {
            Self::Inspect => json!({ "api": VERSION, "do": "inspect" }),
            Self::Ask(verb, patience) => {
                json!({ "api": VERSION, "do": verb.word(), "patience_ms": patience.as_millis() as u64 })
            }
        }
    }

    /// What a line asks.
    ///
    /// # Errors
    /// Why it asks nothing, for whoever sent it.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(line).map_err(|error| format!("not a JSON object: {error}"))?;
        match value["api"].as_u64() {
            Some(VERSION) => {}
            Some(other) => return Err(format!("this run speaks version {VERSION} of the API, not {other}")),
            None => return Err(format!("no version; write \"api\": {VERSION}")),
        }
        let word = value["do"].as_str().ok_or("no \"do\"")?;
        if word == "inspect" {
            return Ok(Self::Inspect);
        }
        let verb = Verb::from_str(word, false).map_err(|_| format!("nothing is called {word:?} here"))?;
        let patience = value["patience_ms"].as_u64().map(Duration::from_millis).ok_or("no \"patience_ms\"")?;
        if patience > MOST_PATIENCE {
            return Err(format!("a patience of more than {} s", MOST_PATIENCE.as_secs()));
        }
        Ok(Self::Ask(verb, patience))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_is_understood_as_it_was_asked() {
        let verbs = Verb::value_variants().iter().map(|verb| Question::Ask(*verb, Duration::from_millis(1500)));
        for question in verbs.chain([Question::Inspect]) {
            assert_eq!(Question::parse(question.emit().to_string().as_bytes()), Ok(question));
        }
    }

    #[test]
    fn other_lines_are_refused_with_the_reason() {
        for (line, why) in [
            ("", "JSON"),
            ("inspect", "JSON"),
            ("[]", "no version"),
            (r#"{"do":"inspect"}"#, "no version"),
            (r#"{"api":2,"do":"inspect"}"#, "not 2"),
            (r#"{"api":1}"#, "do"),
            (r#"{"api":1,"do":"explode"}"#, "explode"),
            (r#"{"api":1,"do":"thaw"}"#, "patience_ms"),
            (r#"{"api":1,"do":"thaw","patience_ms":-1}"#, "patience_ms"),
            (r#"{"api":1,"do":"thaw","patience_ms":99999999999}"#, "3600 s"),
        ] {
            let error = Question::parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
