//! How many tests a run reports, from the lines that the standard harness prints, and which ones skipped themselves.

/// Tests of one or more harnesses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TestCounts {
    /// Ran and passed.
    pub passed: u64,
    /// Marked `#[ignore]` and not asked for.
    pub ignored: u64,
}

impl TestCounts {
    /// Adds up every `test result:` line of `output`.
    pub fn parse(output: &str) -> Self {
        let results = output.lines().filter_map(|line| line.split_once("test result: ").map(|(_, result)| result));
        results.fold(Self::default(), |sum, result| Self {
            passed: sum.passed + number_before(result, " passed"),
            ignored: sum.ignored + number_before(result, " ignored"),
        })
    }
}

/// What tests say that did not do their work, if their output is shown: the rest of lines `skipped: <what>: <why>`.
pub fn self_skipped(output: &str) -> impl Iterator<Item = &str> {
    output.lines().filter_map(|line| line.strip_prefix("skipped: "))
}

fn number_before(result: &str, word: &str) -> u64 {
    let before = result.split_once(word).map_or("", |(before, _)| before);
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_several_harnesses_are_added_up() {
        let output = "running 2 tests\n..\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                      noise\ntest result: ok. 40 passed; 0 failed; 3 ignored; 0 measured; 9 filtered out; finished in 1.00s\n";
        assert_eq!(TestCounts::parse(output), TestCounts { passed: 42, ignored: 4 });
    }

    #[test]
    fn a_run_that_filtered_everything_out_has_no_tests() {
        let output = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.00s";
        assert_eq!(TestCounts::parse(output).passed, 0);
    }

    #[test]
    fn a_test_that_skips_itself_is_noticed() {
        let output = "running 1 test\nskipped: kvm: no right\ntest result: ok.\n3 lanes were skipped: none of yours";
        assert_eq!(self_skipped(output).collect::<Vec<_>>(), ["kvm: no right"]);
    }

    #[test]
    fn output_without_a_harness_has_no_tests() {
        assert_eq!(TestCounts::parse("12 passed through the town"), TestCounts::default());
    }
}
