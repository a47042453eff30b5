//! The words of the command line.

use core::fmt;
use smoltcp::wire::{Ipv4Address, Ipv4Cidr};

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum App {
    /// Prints a line.
    Hello,
    /// Panics.
    Panic,
    /// Sleeps for `seconds=`.
    Wait,
    /// Prints what is typed, until `q` or the end of input.
    Echo,
    /// Reads every file of disk `disk=` and prints its digest.
    Files,
    /// Appends records to disk `disk=`.
    Log,
    /// Prints how many records of disk `disk=` are there.
    Check,
    /// Random requests on disk `disk=`.
    Bench,
    /// Prints the size of disk `disk=`, and each new one, for `seconds=`.
    Resize,
    /// Serves the files of disk 0 over HTTP, and appends to the log on disk 1 what is posted.
    Web,
    /// Bytes over TCP and pings, with others on the network.
    Flow,
    /// Many tasks at once: readers of disk `disk=`, an echo, questions on the network.
    Async,
}

/// How `app=log` makes a record durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Write, then flush.
    Flush,
    /// Write with FUA.
    Fua,
    /// The two in turn.
    Mix,
    /// Not at all, and says that it did: the mutant that the tests must catch.
    Noflush,
}

/// All options; what the command line does not name has a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// `app=`
    pub app: App,
    /// `disk=`: which disk, counted from 0.
    pub disk: u16,
    /// `start=`: number of the first record; by default after those that are there.
    pub start: Option<u64>,
    /// `count=`: records to append, 0 goes on to the end of the disk; rounds of `app=async`.
    pub count: u64,
    /// `batch=`: records per printed batch of acknowledgements.
    pub batch: u64,
    /// `mode=`
    pub mode: Durability,
    /// `errors=retry`: a request of the log that fails is told and asked again, a few times.
    pub retry: bool,
    /// `reset=SEED`: the log's guest restarts in the middle of its work, again and again until the disk is full; 0 does not.
    pub reset: u64,
    /// `depth=`: requests in flight, or readers.
    pub depth: u32,
    /// `requests=`
    pub requests: u64,
    /// `op=write`
    pub write: bool,
    /// `seconds=`
    pub seconds: u64,
    /// `address=10.0.0.1/24`: the network card's; by default it is asked for.
    pub address: Option<Ipv4Cidr>,
    /// `other=10.0.0.2`: another guest of `app=flow`.
    pub other: Option<Ipv4Address>,
    /// `bytes=`: how many are sent to it.
    pub bytes: u64,
    /// `tries=`: how often a ping is sent before the other is given up.
    pub tries: u64,
    /// `offload=on|off`: whether checksums are left to the host where it offers that.
    pub offload: bool,
}

/// A word that is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadWord<'a>(pub &'a str);

impl fmt::Display for BadWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "command line word '{}' is not understood; app= is one of hello panic wait echo files log check bench resize web \
             flow async",
            self.0
        )
    }
}

impl Options {
    const DEFAULT: Self = Self {
        app: App::Hello,
        disk: 0,
        start: None,
        count: 0,
        batch: 8,
        mode: Durability::Mix,
        retry: false,
        reset: 0,
        depth: 32,
        requests: 10_000,
        write: false,
        seconds: 1,
        address: None,
        other: None,
        bytes: 1 << 20,
        tries: 100,
        offload: true,
    };

    /// Reads the words. Those without `=` are the host's business and are skipped.
    ///
    /// # Errors
    /// The first `key=value` that is not understood.
    pub fn parse(cmdline: &str) -> Result<Self, BadWord<'_>> {
        let mut options = Self::DEFAULT;
        for word in cmdline.split_whitespace() {
            if let Some((key, value)) = word.split_once('=') {
                options.set(key, value).ok_or(BadWord(word))?;
            }
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "app" => self.app = app(value)?,
            "disk" => self.disk = value.parse().ok()?,
            "start" => self.start = Some(value.parse().ok()?),
            "count" => self.count = value.parse().ok()?,
            "batch" => self.batch = value.parse().ok().filter(|batch| *batch > 0)?,
            "mode" => self.mode = durability(value)?,
            "errors" if value == "retry" => self.retry = true,
            "errors" if value == "end" => self.retry = false,
            "reset" => self.reset = value.parse().ok()?,
            "depth" => self.depth = value.parse().ok().filter(|depth| *depth > 0)?,
            "requests" => self.requests = value.parse().ok()?,
            "seconds" => self.seconds = value.parse().ok()?,
            "address" => self.address = Some(value.parse().ok()?),
            "other" => self.other = Some(value.parse().ok()?),
            "bytes" => self.bytes = value.parse().ok()?,
            "tries" => self.tries = value.parse().ok()?,
            "offload" if value == "on" => self.offload = true,
            "offload" if value == "off" => self.offload = false,
            "op" if value == "read" => self.write = false,
            "op" if value == "write" => self.write = true,
            _ => return None,
        }
        Some(())
    }
}

fn app(value: &str) -> Option<App> {
    Some(match value {
        "hello" => App::Hello,
        "panic" => App::Panic,
        "wait" | "idle" => App::Wait,
        "echo" => App::Echo,
        "files" => App::Files,
        "log" => App::Log,
        "check" => App::Check,
        "bench" => App::Bench,
        "resize" => App::Resize,
        "web" => App::Web,
        "flow" => App::Flow,
        "async" => App::Async,
        _ => return None,
    })
}

fn durability(value: &str) -> Option<Durability> {
    Some(match value {
        "flush" => Durability::Flush,
        "fua" => Durability::Fua,
        "mix" => Durability::Mix,
        "noflush" => Durability::Noflush,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_set_their_options_and_the_rest_stays() {
        let options = Options::parse("quiet app=log disk=1 count=5 mode=fua errors=retry reset=9").unwrap();
        let log = Options { app: App::Log, disk: 1, count: 5, mode: Durability::Fua, ..Options::DEFAULT };
        assert_eq!(options, Options { retry: true, reset: 9, ..log });
    }

    #[test]
    fn a_word_that_is_not_understood_is_named() {
        assert_eq!(Options::parse("app=hello depth=0"), Err(BadWord("depth=0")));
        assert_eq!(Options::parse("apps=hello"), Err(BadWord("apps=hello")));
    }
}
