//! `pvkit doctor` and `pvkit completions`, as a user calls them.

mod guest;

use guest::pvkit;
use std::io::Write;
use std::process::Stdio;

#[test]
fn the_doctor_says_whether_guests_run_and_ends_accordingly() {
    let output = pvkit(&["doctor"]).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let has_kvm = pvkit_machine::probe_kvm().is_ok();
    assert_eq!(output.status.code(), Some(i32::from(!has_kvm)), "{shown}");
    for what in ["kvm", "processors", "open files", "locked memory", "tap", "mke2fs", "guest target"] {
        assert!(shown.lines().any(|line| line.contains(what)), "{what} in {shown}");
    }
    let json = pvkit(&["doctor", "--json"]).output().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(value["healthy"], has_kvm, "{value}");
    assert_eq!(value["findings"].as_array().unwrap().iter().any(|one| one["what"] == "capability"), has_kvm);
}

#[test]
fn completions_know_the_words_of_the_command_line() {
    for shell in ["bash", "zsh", "fish"] {
        let output = pvkit(&["completions", shell]).output().unwrap();
        let script = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{shell}");
        for word in ["doctor", "completions", "cmdline", "publish"] {
            assert!(script.contains(word), "{word} for {shell}");
        }
    }
    assert_eq!(pvkit(&["completions", "tcsh"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn bash_takes_the_completions() {
    let script = pvkit(&["completions", "bash"]).output().unwrap().stdout;
    let Ok(mut bash) = std::process::Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn() else {
        return guest::skip("bash", "it is not installed");
    };
    bash.stdin.take().unwrap().write_all(&script).unwrap();
    assert!(guest::wait_for_end(&mut bash).success());
}
