//! A backend that answers flushes without doing them: the demo must notice. Only with the feature `mutants`.

mod guest;

#[test]
fn a_backend_that_does_not_flush_fails_the_demo() {
    let workshop = guest::folder("demo-backend-noflush");
    let output = guest::pvkit(&["demo", "--machine", "in-process", "--mutant", "backend-noflush"])
        .env("CARGO_TARGET_DIR", &workshop)
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("records were acknowledged"), "{shown}");
    std::fs::remove_dir_all(workshop).unwrap();
}
