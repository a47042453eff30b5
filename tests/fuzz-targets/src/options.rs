//! What stands behind the options of the command line, and what comes to a run's socket.

use crate::input::Input;

const OPTIONS: [&str; 6] = ["disk", "net", "publish", "memory", "mac", "console"];

/// A refusal says something; what is shown of what was understood is understood as the same.
pub fn words(data: &[u8]) {
    let mut input = Input::new(data);
    let option = OPTIONS[usize::from(input.below(6))];
    let text = String::from_utf8_lossy(input.rest());
    match pvkit::fuzzing::option(option, &text) {
        Ok(Some(shown)) => {
            assert_eq!(pvkit::fuzzing::option(option, &shown), Ok(Some(shown.clone())), "{option}={text:?}")
        }
        Ok(None) => {}
        Err(why) => assert!(why.len() > 5, "{option}={text:?}: {why:?}"),
    }
}

/// A line that is understood is understood again, as the same, when it is written anew.
pub fn api_line(data: &[u8]) {
    if let Ok(line) = pvkit::fuzzing::api_line(data) {
        assert_eq!(pvkit::fuzzing::api_line(&line), Ok(line.clone()), "{}", String::from_utf8_lossy(&line));
    }
}
