//! What of a long output tells why it failed: said again at the end of a run, whose middle a log may have lost.

/// Lines of one failure that are said again.
const MOST: usize = 40;
/// Lines from one that tells of a failure on: a panic's message, a compiler's place.
const WITH_FOLLOWERS: usize = 5;
/// Lines at the end, whatever they say.
const LAST: usize = 8;
/// Columns of a line.
const WIDTH: usize = 300;
/// How a line begins, or what is in it, that tells of a failure.
const BEGINNINGS: &[&str] = &["FAILED", "error", "scenario: "];
const WORDS: &[&str] = &["panicked at", "... FAILED", ": FAILED", "did not", "no space left"];

/// The lines of `output` that tell of a failure, with some that follow each, and the last ones.
pub fn gist(output: &str) -> Vec<String> {
    let lines: Vec<_> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    let end = lines.len().saturating_sub(LAST);
    let telling = |line: &str| {
        BEGINNINGS.iter().any(|beginning| line.starts_with(beginning)) || WORDS.iter().any(|word| line.contains(word))
    };
    let mut follow = 0;
    let mut chosen = Vec::new();
    for line in lines.get(..end).unwrap_or_default() {
        follow = if telling(line) { WITH_FOLLOWERS } else { follow.saturating_sub(1) };
        if follow > 0 && chosen.len() < MOST - LAST {
            chosen.push(*line);
        }
    }
    chosen.extend(lines.get(end..).unwrap_or_default());
    chosen.iter().map(|line| line.chars().take(WIDTH).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_the_middle_of_much_output_is_found_with_its_message() {
        let noise = "noise\n".repeat(1000);
        let output =
            format!("{noise}thread 'x' panicked at tests/x.rs:3:5:\nsector 7: [1, 2]\n{noise}test result: FAILED");
        let gist = gist(&output);
        assert!(gist.len() <= MOST, "{gist:?}");
        let place = gist.iter().position(|line| line.contains("panicked at")).expect("the panic");
        assert_eq!(gist.get(place + 1).map(String::as_str), Some("sector 7: [1, 2]"));
        assert_eq!(gist.last().map(String::as_str), Some("test result: FAILED"));
    }

    #[test]
    fn output_that_tells_nothing_shows_its_end() {
        let output: String = (0..100).map(|i| format!("line {i}\n")).collect();
        assert_eq!(gist(&output).first().map(String::as_str), Some("line 92"));
    }

    #[test]
    fn much_that_fails_and_lines_without_end_are_cut() {
        let gist = gist(&format!("{}\n", "x".repeat(10_000)).repeat(20).replace('x', "error"));
        assert!(gist.len() <= MOST && gist.iter().all(|line| line.len() <= WIDTH));
    }
}
