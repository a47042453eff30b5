//! What was executed of a target so far, kept beside what was found, so that a run goes on where another one ended.
//!
//! It belongs to one build of the target: with a newer program it begins anew.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Executions, and how long they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub executions: u64,
    pub seconds: u64,
}

impl Tally {
    /// What the file says; nothing if there is none that can be read, or if the program is newer.
    pub fn read(file: &Path, program: &Path) -> Self {
        let modified = |path| fs::metadata(path).and_then(|about| about.modified());
        let is_stale = match (modified(file), modified(program)) {
            (Ok(told), Ok(built)) => told < built,
            _ => true,
        };
        let text = if is_stale { String::new() } else { fs::read_to_string(file).unwrap_or_default() };
        Self::parse(&text).unwrap_or_default()
    }

    pub fn write(self, file: &Path) -> io::Result<()> {
        fs::write(file, format!("{} {}\n", self.executions, self.seconds))
    }

    pub fn add(&mut self, executions: u64, time: Duration) {
        self.executions += executions;
        // To the nearest, so that many short runs come to what they took.
        self.seconds += (time + Duration::from_millis(500)).as_secs();
    }

    fn parse(text: &str) -> Option<Self> {
        let (executions, seconds) = text.trim().split_once(' ')?;
        Some(Self { executions: executions.parse().ok()?, seconds: seconds.parse().ok()? })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} executions in {} s", self.executions, self.seconds)
    }
}

/// How many executions the fuzzer's output tells of: the number at the begin of its last line that has one.
pub fn executed(output: &str) -> u64 {
    // A tab follows it; a space follows the numbers of a stack's frames.
    let number = |line: &str| line.strip_prefix('#')?.split_once('\t')?.0.parse().ok();
    output.lines().rev().find_map(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_is_what_was_executed() {
        let output = "INFO: seed\n#2\tINITED cov: 3\n#512\tpulse  cov: 3\n==77== ERROR: libFuzzer: deadly signal\n#0 0x55 in f\n";
        assert_eq!(executed("INFO: none"), 0);
        assert_eq!(executed(&output[..output.find("==77").unwrap()]), 512);
        assert_eq!(executed(output), 512, "a frame of a stack is no count");
    }

    #[test]
    fn a_tally_is_read_as_it_was_written_until_the_program_is_newer() {
        let folder = std::env::temp_dir().join(format!("pvkit-tally-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, program) = (folder.join("tally"), folder.join("program"));
        fs::write(&program, "old").unwrap();
        assert_eq!(Tally::read(&file, &program), Tally::default());
        let mut tally = Tally::default();
        tally.add(50_000, Duration::from_millis(1500));
        tally.write(&file).unwrap();
        let read = Tally::read(&file, &program);
        let later = fs::metadata(&file).unwrap().modified().unwrap() + Duration::from_secs(1);
        fs::File::options().write(true).open(&program).unwrap().set_modified(later).unwrap();
        let stale = Tally::read(&file, &program);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!((read, stale), (Tally { executions: 50_000, seconds: 2 }, Tally::default()));
    }
}
