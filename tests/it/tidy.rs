//! The style rules of CONTRIBUTING.md that a program can check.

use std::ops::Range;

use crate::source::{Source, block_end, code_only, files, is_word, paths, places};

/// Past this a file has more than one job.
const MAX_FILE_LINES: usize = 600;
/// Past this a function cannot be read in one view.
const MAX_FUNCTION_LINES: usize = 100;
/// Names that say nothing about what is inside, so anything ends up there.
const EMPTY_NAMES: &[&str] =
    &["util", "utils", "common", "core", "types", "helper", "helpers", "misc"];
/// How a comment starts that says why the `unwrap` or `expect` on the next line cannot fail.
const REASON: &str = "// Cannot fail:";
const TEST_ATTRIBUTE: &str = "#[cfg(test)]";

#[test]
fn no_file_is_too_long() {
    report(written_files().iter().flat_map(file_length));
}

#[test]
fn no_function_is_too_long() {
    report(rust_files().iter().flat_map(function_lengths));
}

#[test]
fn names_of_files_and_folders_say_what_is_inside() {
    let folders = ["src", "sdk-js/src", "tests"];
    report(folders.iter().flat_map(|folder| paths(folder)).flat_map(|path| empty_name(&path)));
}

#[test]
fn every_source_file_starts_with_its_doc() {
    report(files("src", &[".rs"]).iter().flat_map(missing_doc));
}

#[test]
fn failures_outside_tests_are_handled() {
    let sources = files("src", &[".rs"]);
    let test_only: Vec<_> = sources.iter().flat_map(test_only_paths).collect();
    let shipped =
        sources.iter().filter(|file| !test_only.iter().any(|path| is_at(path, &file.path)));
    report(shipped.flat_map(unhandled_failures));
}

/// Whether their tests notice is for `make mutants` to say, which takes hours.
#[test]
fn every_mutant_breaks_a_line_that_is_there() {
    let text = std::fs::read_to_string("tests/mutants.toml").expect("reads");
    let all: toml::Table = text.parse().expect("TOML");
    let mutants = all["mutant"].as_array().expect("a list");
    report(mutants.iter().filter_map(|mutant| {
        let [file, line] = ["file", "line"].map(|key| mutant[key].as_str().expect("text"));
        let source = std::fs::read_to_string(file).unwrap_or_default();
        (!source.contains(line)).then(|| format!("tests/mutants.toml: not in {file}: {line}"))
    }));
}

#[test]
fn no_path_of_anyones_machine_is_written_down() {
    report(files("", &[]).iter().flat_map(machine_paths));
}

fn report(findings: impl Iterator<Item = String>) {
    let findings: Vec<_> = findings.collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

fn rust_files() -> Vec<Source> {
    let mut found = files("src", &[".rs"]);
    found.extend(files("tests", &[".rs"]));
    found
}

fn written_files() -> Vec<Source> {
    let mut found = rust_files();
    found.extend(files("sdk-js/src", &[".ts"]));
    found.extend(files("tests", &[".mjs", ".ts", ".py"]));
    found
}

fn file_length(file: &Source) -> Option<String> {
    let lines = file.text.lines().count();
    (lines > MAX_FILE_LINES)
        .then(|| format!("{}: {lines} lines, at most {MAX_FILE_LINES}", file.path))
}

fn function_lengths(file: &Source) -> Vec<String> {
    let code = code_only(&file.text);
    let mut findings = Vec::new();
    for at in places(&code, "fn ") {
        let Some(body) = body_of(&code, at) else { continue };
        let lines = file.line_at(body.end - 1) - file.line_at(at) + 1;
        if lines > MAX_FUNCTION_LINES {
            findings.push(format!(
                "{}:{}: function of {lines} lines, at most {MAX_FUNCTION_LINES}",
                file.path,
                file.line_at(at)
            ));
        }
    }
    findings
}

/// The body of the function whose `fn` stands at `at`; none if it is only declared.
fn body_of(code: &str, at: usize) -> Option<Range<usize>> {
    let mut nested = 0;
    for (offset, byte) in code[at..].bytes().enumerate() {
        match byte {
            b'(' | b'[' => nested += 1,
            b')' | b']' => nested -= 1,
            // Only declared, or the type `fn (u8)`.
            b';' | b',' | b'=' if nested == 0 => return None,
            b'{' if nested == 0 => return Some(at..block_end(code, at + offset)?),
            _ if nested < 0 => return None,
            _ => {}
        }
    }
    None
}

fn empty_name(path: &str) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.split('.').next().unwrap_or(name);
    EMPTY_NAMES
        .contains(&stem.to_lowercase().as_str())
        .then(|| format!("{path}: name it after what it holds, not \"{stem}\""))
}

fn missing_doc(file: &Source) -> Option<String> {
    (!file.text.starts_with("//! "))
        .then(|| format!("{}:1: starts without a `//!` doc of the file", file.path))
}

fn unhandled_failures(file: &Source) -> Vec<String> {
    let code = code_only(&file.text);
    let tests = test_modules(&code);
    let lines: Vec<_> = file.text.lines().collect();
    let mut findings = Vec::new();
    for call in [".unwrap()", ".expect("] {
        for (at, _) in code.match_indices(call) {
            let line = file.line_at(at);
            // A parser's own `expect` takes the character it expects, the panicking one a message.
            let argument = file.text[at + call.len()..].trim_start();
            let is_parser =
                call == ".expect(" && argument.trim_start_matches('b').starts_with('\'');
            let is_test = tests.iter().any(|range| range.contains(&at));
            if !is_parser && !is_test && !has_reason(&lines, line) {
                findings.push(format!(
                    "{}:{line}: `{call}` without \"{REASON} …\" on the line before",
                    file.path
                ));
            }
        }
    }
    findings
}

/// Whether the call on a 1-based line, or the chain of calls it belongs to, has its reason above.
fn has_reason(lines: &[&str], line: usize) -> bool {
    for at in (0..line.saturating_sub(1)).rev() {
        if lines[at].trim_start().starts_with(REASON) {
            return true;
        }
        if !lines[at + 1].trim_start().starts_with(['.', ')', '}']) {
            return false;
        }
    }
    false
}

/// The modules and items of a file that are compiled for tests only.
fn test_modules(code: &str) -> Vec<Range<usize>> {
    test_attributes(code)
        .filter(|at| declared_module(code, *at).is_none())
        .filter_map(|at| Some(at..block_end(code, at)?))
        .collect()
}

/// Paths, without ending, of the modules that a file declares for tests only.
fn test_only_paths(file: &Source) -> Vec<String> {
    let code = code_only(&file.text);
    let stem = file.path.trim_end_matches(".rs");
    let folder = ["/mod", "/lib", "/main"].iter().find_map(|root| stem.strip_suffix(root));
    let folder = folder.unwrap_or(stem);
    test_attributes(&code)
        .filter_map(|at| Some(format!("{folder}/{}", declared_module(&code, at)?)))
        .collect()
}

fn test_attributes(code: &str) -> impl Iterator<Item = usize> + '_ {
    code.match_indices(TEST_ATTRIBUTE).map(|(at, _)| at)
}

/// The name in the `mod name;` that follows a test attribute, if that is what follows.
fn declared_module(code: &str, attribute: usize) -> Option<&str> {
    let item = code[attribute + TEST_ATTRIBUTE.len()..].split([';', '{']).next()?;
    let ends_in = code.as_bytes().get(attribute + TEST_ATTRIBUTE.len() + item.len())?;
    let (_, name) = item.split_once("mod ")?;
    (*ends_in == b';').then_some(name.trim())
}

/// Whether a file is the module of a path without ending, or lies inside it.
fn is_at(module: &str, file: &str) -> bool {
    file.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

fn machine_paths(file: &Source) -> Vec<String> {
    // Put together here, so that this file does not name them itself.
    let roots = ["home", "Users", "root", "work"].map(|root| format!("/{root}/"));
    let mut findings = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for root in &roots {
            let found = line.match_indices(root).any(|(at, _)| {
                let before = at.checked_sub(1).map(|before| line.as_bytes()[before]);
                let after = line.as_bytes().get(at + root.len());
                // Behind a word it is part of a longer path or of an address.
                !before.is_some_and(|byte| is_word(byte) || b".-}".contains(&byte))
                    && after.is_some_and(|byte| is_word(*byte) || *byte == b'.')
            });
            if found {
                findings.push(format!("{}:{}: absolute path below {root}", file.path, number + 1));
            }
        }
    }
    findings
}

#[test]
fn a_long_file_and_a_long_function_are_found() {
    let long = format!("//! x\n{}", "let x = 1;\n".repeat(MAX_FILE_LINES));
    assert!(file_length(&Source::new("src/a.rs", &long)).is_some());

    let function = |lines| {
        let body = "    // }\n".repeat(lines - 2);
        Source::new(
            "src/a.rs",
            &format!("trait T {{ fn a(); }}\nfn b<F: Fn(u8) -> [u8; 2]>(f: F)\n{{\n{body}}}\n"),
        )
    };
    assert_eq!(function_lengths(&function(MAX_FUNCTION_LINES - 1)), [""; 0]);
    let found = function_lengths(&function(MAX_FUNCTION_LINES));
    assert_eq!(found, ["src/a.rs:2: function of 101 lines, at most 100"]);
}

#[test]
fn an_empty_name_is_found() {
    assert!(empty_name("src/hub/helpers.rs").is_some());
    assert!(empty_name("sdk-js/src/types.ts").is_some());
    assert!(empty_name("src/core").is_some());
    assert!(empty_name("src/hub/shard.rs").is_none());
}

#[test]
fn a_missing_doc_is_found() {
    assert!(missing_doc(&Source::new("src/a.rs", "use std::fs;\n//! late")).is_some());
    assert!(missing_doc(&Source::new("src/a.rs", "//! What it does.\n")).is_none());
}

#[test]
fn an_unreasoned_unwrap_is_found_and_only_that() {
    let found = |text: &str| unhandled_failures(&Source::new("src/a.rs", text)).len();
    assert_eq!(found("fn f() { x().unwrap(); y().expect(\"y\"); }"), 2);
    assert_eq!(found("// because\nx().unwrap();"), 1, "some comment is not a reason");
    assert_eq!(found("// Cannot fail: the list was just filled.\nx().unwrap();"), 0);
    assert_eq!(
        found("// Cannot fail: it is a constant.\nlet y = x()\n    .z()\n    .unwrap();"),
        0
    );
    assert_eq!(found("// Cannot fail: it is a constant.\nlet y = x();\nz()\n    .unwrap();"), 1);
    assert_eq!(
        found("// x.unwrap()\nlet x = \".unwrap()\"; x.unwrap_or(1); #[expect(dead_code)]"),
        0
    );
    assert_eq!(found("#[cfg(test)]\nmod tests { fn f() { x().unwrap(); } }"), 0);
    assert_eq!(found("self.expect(b':')?; self.expect(')')?;"), 0, "a parser's own");
    assert_eq!(found("#[cfg(test)]\nmod testing;\nfn g() { x().unwrap(); }"), 1);
    assert_eq!(found("#[cfg(test)]\nmod tests { fn f() {} }\nfn g() { x().unwrap(); }"), 1);
}

#[test]
fn a_module_for_tests_only_is_known_by_its_declaration() {
    let declared = |path: &str| {
        test_only_paths(&Source::new(path, "mod a;\n#[cfg(test)]\nmod b;\n#[cfg(test)]\nmod c {}"))
    };
    assert_eq!(declared("src/auth/mod.rs"), ["src/auth/b"]);
    assert_eq!(declared("src/hub.rs"), ["src/hub/b"]);
    assert_eq!(declared("src/lib.rs"), ["src/b"]);
    assert!(is_at("src/b", "src/b.rs") && is_at("src/b", "src/b/c.rs"));
    assert!(!is_at("src/b", "src/broker.rs"));
}

#[test]
fn a_machine_path_is_found_and_only_that() {
    let found = |text: String| machine_paths(&Source::new("README.md", &text)).len();
    assert_eq!(found(format!("see /{}/anna/notes", "home")), 1);
    assert_eq!(found(format!("cd /{}/.cargo", "root")), 1);
    assert_eq!(found(format!("\"/{}/main\"", "work")), 1);
    assert_eq!(found(format!("https://example.org/{}/a and $DIR/{}/b", "home", "work")), 0);
}
