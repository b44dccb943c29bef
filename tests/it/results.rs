//! The comparison with another server: its page of results, and its own tests.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn the_page_of_results_says_what_the_kept_runs_say() {
    let made = python(&["bench/compare", "--report", "--stdout"]);
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
    let page = fs::read(Path::new(ROOT).join("bench/RESULTS.md")).expect("the page is there");
    assert!(
        page == made.stdout,
        "bench/RESULTS.md is not what its runs say; make it with `bench/compare --report`"
    );
}

#[test]
fn the_comparison_passes_its_own_tests() {
    let ran = python(&["-m", "unittest", "discover", "-s", "bench", "-p", "*_test.py"]);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    // Where nothing is found, nothing fails.
    let found = said.lines().any(|line| line.starts_with("Ran ") && !line.starts_with("Ran 0 "));
    assert!(found, "no test ran:\n{said}");
}

fn python(arguments: &[&str]) -> Output {
    Command::new("python3")
        .args(arguments)
        .current_dir(ROOT)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("the tests need python3, 3.11 or newer")
}
