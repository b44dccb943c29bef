//! The scripts that CI trusts to tell how a run went.

use std::io::Write;
use std::process::{Command, Output, Stdio};

#[test]
fn results_of_every_runner_are_added_up() {
    let output = "\
test result: ok. 12 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s
test result: ok. 0 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.1s
ℹ tests 44
ℹ pass 40
ℹ fail 3
ℹ cancelled 1
# pass 5
# fail 0
\u{1b}[32m=== 2 failed, 20 passed, 1 skipped, 1 error in 3.21s (0:00:03) ===\u{1b}[0m
7 passed in 0.50s
 Test Files  1 failed | 5 passed (6)
      Tests  2 failed | 30 passed | 1 skipped (33)
\u{1b}[2m      Tests \u{1b}[22m \u{1b}[1m\u{1b}[32m4 passed\u{1b}[39m\u{1b}[22m\u{1b}[90m (4)\u{1b}[39m
";
    let counted = count(output);
    assert_eq!(String::from_utf8_lossy(&counted.stdout), "118 passed, 10 failed\n");
    assert!(counted.status.success());
}

#[test]
fn nothing_is_claimed_when_no_runner_reported() {
    let counted = count("error: could not compile `bobolink`\n100 passed the gate\n");
    assert_eq!(String::from_utf8_lossy(&counted.stdout), "");
    assert!(!counted.status.success());
}

fn count(output: &str) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/count-results");
    let mut child = Command::new(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the script starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(output.as_bytes()).expect("the script reads");
    drop(stdin);
    child.wait_with_output().expect("the script ends")
}
