//! Second half of the main job: records are posted to the guest's web server, which appends them to a log; the guest is
//! killed at a random moment, and boots again: every record whose acknowledgement came must be there.
//!
//! The disk's cache is volatile: what the guest did not flush goes with the killed process. The host reads the image by
//! itself too, between two lives of the guest, so that a guest which only claims to find its records is noticed. What a record says follows from its number, so
//! that one that is torn, or was never sent, is noticed too.

use super::leash::Leash;
use super::log_image;
use super::random::Random;
use super::say::say;
use super::session::{Guest, Session, SessionError};
use super::web::{Client, WebError};
use super::workshop::RunFile;
use std::fmt;
use std::io;
use std::thread;
use std::time::Duration;

/// Lives that end by a kill.
const KILLS: u32 = 3;
/// Records acknowledged in a life before the kill, at least and at most.
const RECORDS: (u64, u64) = (16, 200);
/// After that many the kill comes at any moment within this, in microseconds, while more are being posted.
const MOMENT_US: (u64, u64) = (0, 3000);
/// Records of the last life, which ends by itself.
const LAST_RECORDS: u64 = 16;

/// What the log came to.
#[derive(Clone, Copy, Debug)]
pub struct LogKept {
    /// Records acknowledged over all lives.
    pub acknowledged: u64,
    /// Times the guest was killed.
    pub kills: u32,
}

/// Why the log is not accepted.
#[derive(Debug)]
pub enum LogError {
    /// The guest could not be started or ended.
    Session(SessionError),
    /// Its server does not do its work.
    Web(WebError),
    /// The image could not be read by the host.
    Image(io::Error),
    /// Acknowledged records are gone: what the guest finds.
    GuestLost { acknowledged: u64, found: u64 },
    /// Acknowledged records are gone: what the host reads.
    HostLost { acknowledged: u64, found: u64 },
    /// Records are not acknowledged in order.
    OutOfOrder { expected: u64, got: u64 },
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(_) | Self::Web(_) => write!(f, "the guest did not keep its log"),
            Self::Image(_) => write!(f, "the log's image cannot be read by the host"),
            Self::GuestLost { acknowledged, found } => {
                write!(f, "{acknowledged} records were acknowledged, and after the kill the guest finds {found}")
            }
            Self::HostLost { acknowledged, found } => {
                write!(f, "{acknowledged} records were acknowledged, and after the kill the image holds {found}")
            }
            Self::OutOfOrder { expected, got } => {
                write!(f, "record {got} is acknowledged where {expected} is the next")
            }
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Session(error) => Some(error),
            Self::Web(error) => Some(error),
            Self::Image(error) => Some(error),
            _ => None,
        }
    }
}

impl From<SessionError> for LogError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl From<WebError> for LogError {
    fn from(error: WebError) -> Self {
        Self::Web(error)
    }
}

/// The log as the demo knows it: how many records must be there.
struct Log<'a> {
    guest: &'a Guest,
    leash: &'a Leash,
    image: &'a RunFile,
    mode: &'a str,
    seed: u64,
    acknowledged: u64,
}

/// Lets the guest append, kills it, and looks; several times. `mode` stands behind the guest's command line, `seed` is
/// part of what the records say.
///
/// # Errors
/// An acknowledged record is gone, or a guest does not do its work.
pub fn verify(guest: &Guest, leash: &Leash, image: &RunFile, mode: &str, seed: u64) -> Result<LogKept, LogError> {
    let random = &mut Random::from_seed(seed);
    let mut log = Log { guest, leash, image, mode, seed, acknowledged: 0 };
    for life in 1..=KILLS {
        let (found, added) = log.live_and_die(random)?;
        say(format_args!("log: life {life}: found {found}, acknowledged {added} more, killed"));
        log.check_image()?;
    }
    let found = log.last_life()?;
    say(format_args!("log: life {}: found {found}, acknowledged {LAST_RECORDS} more, ended in good order", KILLS + 1));
    log.check_image()?;
    Ok(LogKept { acknowledged: log.acknowledged, kills: KILLS })
}

impl Log<'_> {
    fn live_and_die(&mut self, random: &mut Random) -> Result<(u64, u64), LogError> {
        let (session, client) = Session::serve(self.guest, self.leash, self.mode)?;
        let found = self.check_found(&client)?;
        for _ in 0..random.between(RECORDS.0, RECORDS.1) {
            self.post(&client)?;
        }
        let (moment, leash) = (Duration::from_micros(random.between(MOMENT_US.0, MOMENT_US.1)), self.leash.clone());
        let killer = thread::spawn(move || {
            thread::sleep(moment);
            leash.kill();
        });
        loop {
            match self.post(&client) {
                Ok(()) => {}
                Err(LogError::Web(_)) => break,
                Err(other) => return Err(other),
            }
        }
        let _ = killer.join();
        session.gone()?;
        Ok((found, self.acknowledged - found))
    }

    fn last_life(&mut self) -> Result<u64, LogError> {
        let (session, client) = Session::serve(self.guest, self.leash, self.mode)?;
        let found = self.check_found(&client)?;
        for _ in 0..LAST_RECORDS {
            self.post(&client)?;
        }
        session.stop()?;
        Ok(found)
    }

    /// What the guest finds after boot: all that was acknowledged, perhaps one that was under way.
    fn check_found(&mut self, client: &Client) -> Result<u64, LogError> {
        let answer = client.text("/log")?;
        let found = answer.parse().map_err(|_| WebError::Strange { path: "/log".into(), answer })?;
        if found < self.acknowledged {
            return Err(LogError::GuestLost { acknowledged: self.acknowledged, found });
        }
        // The guest goes on behind the last record that it found.
        self.acknowledged = found;
        Ok(found)
    }

    /// Posts the next record and waits for its acknowledgement.
    fn post(&mut self, client: &Client) -> Result<(), LogError> {
        let answer = client.post("/log", &text(self.seed, self.acknowledged))?;
        match number(&answer, "acked ") {
            Some(acked) => self.count(acked),
            None => Err(WebError::Strange { path: "/log".into(), answer }.into()),
        }
    }

    /// The guest acknowledges one record: the next one, counted from 0.
    fn count(&mut self, acked: u64) -> Result<(), LogError> {
        if acked != self.acknowledged {
            return Err(LogError::OutOfOrder { expected: self.acknowledged, got: acked });
        }
        self.acknowledged += 1;
        Ok(())
    }

    fn check_image(&self) -> Result<(), LogError> {
        let seed = self.seed;
        let found = log_image::records(&self.image.file, |number| text(seed, number)).map_err(LogError::Image)?;
        if found < self.acknowledged {
            return Err(LogError::HostLost { acknowledged: self.acknowledged, found });
        }
        Ok(())
    }
}

/// What a record says.
fn text(seed: u64, number: u64) -> String {
    format!("record {number} of the demo with seed {seed}")
}

fn number(line: &str, word: &str) -> Option<u64> {
    line.strip_prefix(word)?.split_whitespace().next()?.parse().ok()
}
