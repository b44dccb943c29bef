//! The image of the gateway, by its text: whether what it is built from is there, and how it runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use crate::source::files;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Instructions of the Dockerfile with their arguments, continued lines joined.
fn instructions() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("Dockerfile")).expect("Dockerfile");
    let text = text.replace("\\\n", " ");
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = |line: &str| {
        let (name, rest) = line.split_once(' ').expect("an instruction");
        (name.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    lines.map(split).collect()
}

/// The arguments of every `name`, in order.
fn all(name: &str) -> Vec<String> {
    let found = instructions().into_iter().filter(|(found, _)| found == name);
    found.map(|(_, rest)| rest).collect()
}

/// What the builder is sent.
fn sent() -> Vec<String> {
    let text = fs::read_to_string(root().join(".dockerignore")).expect(".dockerignore");
    let lines: Vec<_> =
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert_eq!(lines[0], "*", "everything else stays here");
    let allowed = |line: &&str| line.strip_prefix('!').expect("a line with !").to_owned();
    lines[1..].iter().map(allowed).collect()
}

#[test]
fn what_is_built_is_not_what_runs() {
    let stages = all("FROM");
    let rust = concat!("rust:", env!("CARGO_PKG_RUST_VERSION"), "-bookworm AS build");
    assert_eq!(stages, [rust, "debian:bookworm-slim"]);
    let copies = all("COPY");
    assert_eq!(copies, [". .", "--from=build /bobolink /usr/local/bin/bobolink"]);
    assert!(all("RUN")[0].contains("cargo build --locked --release --bin bobolink"));
}

#[test]
fn the_image_runs_without_rights_and_says_how_it_is() {
    let user = all("USER").pop().expect("a user");
    let id: u32 = user.split(':').next().and_then(|id| id.parse().ok()).expect("a number");
    assert!(id >= 1_000, "not root, nor one of the system's own");
    assert!(all("RUN")[1].contains(&format!("--uid {id} ")), "the user exists");
    // Nothing that needs rights comes behind it.
    let names: Vec<_> = instructions().into_iter().map(|(name, _)| name).collect();
    let at = names.iter().position(|name| name == "USER").expect("a user");
    assert!(!names[at..].iter().any(|name| name == "RUN" || name == "COPY"));

    let health = all("HEALTHCHECK").pop().expect("a health check");
    assert!(health.ends_with(r#"CMD ["bobolink", "healthcheck"]"#), "{health}");
    assert_eq!(all("ENTRYPOINT"), [r#"["bobolink"]"#]);
    assert_eq!(all("STOPSIGNAL"), ["SIGTERM"]);
    let labels = all("LABEL").join(" ");
    for label in ["title", "description", "source", "licenses", "version", "revision"] {
        assert!(labels.contains(&format!("org.opencontainers.image.{label}=")), "{label}");
    }
}

#[test]
fn the_ports_and_variables_of_the_image_are_those_of_the_configuration() {
    let variables = all("ENV").join(" ");
    let known: BTreeSet<_> = bobolink::config::Config::all_keys()
        .into_iter()
        .map(|key| format!("BOBOLINK_{}", key.path.replace('.', "_").to_uppercase()))
        .collect();
    for name in variables.split(' ').filter_map(|pair| Some(pair.split_once('=')?.0)) {
        assert!(known.contains(name), "{name}");
    }
    assert!(variables.contains("BOBOLINK_HTTP_SERVER_INTERNAL_PORT=9000"));
    assert!(variables.contains("BOBOLINK_HEALTH_ENABLED=true"), "or the health check fails");
    assert_eq!(all("EXPOSE"), ["8000 9000 9100"]);
}

#[test]
fn cargo_accepts_what_the_builder_is_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    for path in sent() {
        assert!(root().join(&path).exists(), "{path} is not there");
        copy(&root().join(&path), &folder.path().join(&path));
    }
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(&folder)
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_file_that_the_program_includes_is_sent() {
    let sent = sent();
    for file in files("src", &[".rs"]) {
        // Tests are not part of the program.
        let text = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        if file.path.ends_with("tests.rs") || file.path.contains("/tests/") {
            continue;
        }
        for rest in text.split("include_str!(\"").chain(text.split("include_bytes!(\"")).skip(1) {
            let Some(name) = rest.split('"').next().filter(|name| name.starts_with("../")) else {
                continue;
            };
            let folder = Path::new(&file.path).parent().expect("a folder");
            let path = normal(&folder.join(name));
            let is_sent = sent.iter().any(|sent| path.starts_with(sent));
            assert!(is_sent, "{} includes {}, which is not sent", file.path, path.display());
        }
    }
}

/// A path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(normal.pop()),
            component => normal.push(component),
        }
    }
    normal
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("a folder");
        for entry in fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("an entry");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(from, to).expect("a file");
    }
}
