//! The arrows between modules, which Cargo cannot enforce inside one package.

use crate::source::{Source, code_only, files, is_word, places};

/// Each group may use the groups below it; modules of one group do not know each other.
const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["server"],
    &["history"],
    &["api", "transport"],
    &["session"],
    &["node"],
    &["broker", "presence", "ingest"],
    &["hub", "redis", "archive"],
    &["auth", "channel"],
    &["config"],
    &["protocol", "websocket"],
];

/// Modules that serve every layer. They use each other, but no layer beyond what is named here.
const SERVICES: &[(&str, &[&str])] =
    &[("time", &[]), ("lifecycle", &[]), ("descriptors", &[]), ("telemetry", &["config"])];

/// Modules that stand beside the layers, with those that use them and those they use.
const BESIDE: &[(&str, &[&str], &[&str])] = &[
    ("client", &["cli", "drill"], &["protocol"]),
    ("bench", &["cli"], &["protocol", "websocket", "auth"]),
    ("drill", &["cli"], &["protocol", "client", "auth", "config", "redis"]),
];

/// The crate's two roots declare and start everything, so no arrow binds them.
const ROOTS: &[&str] = &["main", "lib"];

#[test]
fn modules_use_only_the_layers_below_them() {
    let breaches: Vec<_> = files("src", &[".rs"]).iter().flat_map(breaches).collect();
    assert!(breaches.is_empty(), "layer breaches:\n{}", breaches.join("\n"));
}

#[test]
fn every_module_has_a_place_in_the_layers() {
    let mut unplaced: Vec<_> =
        files("src", &[".rs"]).iter().map(|file| module_of(&file.path).to_owned()).collect();
    unplaced.dedup();
    unplaced.retain(|module| !is_placed(module) && !ROOTS.contains(&module.as_str()));
    assert!(
        unplaced.is_empty(),
        "modules missing from the lists in tests/it/layers.rs: {unplaced:?}"
    );
}

fn breaches(file: &Source) -> Vec<String> {
    let user = module_of(&file.path);
    if ROOTS.contains(&user) {
        return Vec::new();
    }
    used_modules(file)
        .into_iter()
        .filter(|(_, used)| used != user && is_placed(used) && !may_use(user, used))
        .map(|(at, used)| format!("{}:{}: {user} uses {used}", file.path, file.line_at(at)))
        .collect()
}

fn module_of(path: &str) -> &str {
    let below_src = path.strip_prefix("src/").unwrap_or(path);
    let first = below_src.split('/').next().unwrap_or(below_src);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn is_placed(module: &str) -> bool {
    layer_of(module).is_some() || is_service(module) || beside(module).is_some()
}

fn beside(
    module: &str,
) -> Option<&'static (&'static str, &'static [&'static str], &'static [&'static str])> {
    BESIDE.iter().find(|(name, ..)| *name == module)
}

fn is_service(module: &str) -> bool {
    SERVICES.iter().any(|(name, _)| *name == module)
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|group| group.contains(&module))
}

fn may_use(user: &str, used: &str) -> bool {
    if is_service(used) {
        return true;
    }
    if let Some((_, users, _)) = beside(used) {
        return users.contains(&user);
    }
    if let Some((.., uses)) = beside(user) {
        return uses.contains(&used);
    }
    match SERVICES.iter().find(|(name, _)| *name == user) {
        Some((_, allowed)) => allowed.contains(&used),
        None => layer_of(user) < layer_of(used),
    }
}

/// Top-level modules a file names, with the place of each mention.
fn used_modules(file: &Source) -> Vec<(usize, String)> {
    let code = code_only(&file.text);
    let mut used = Vec::new();
    for at in places(&code, "crate::") {
        named_after(&code, at + "crate::".len(), &mut used);
    }
    for at in places(&code, "super::") {
        let chain = code[at..].split("super::").take_while(|between| between.is_empty()).count();
        let from = at + chain * "super::".len();
        if chain >= depth(&file.path) && !code[..at].ends_with("super::") {
            named_after(&code, from, &mut used);
        }
    }
    used
}

/// How many `super::` lead from a file to the crate's root.
fn depth(path: &str) -> usize {
    let below_src = path.strip_prefix("src/").unwrap_or(path);
    below_src.trim_end_matches(".rs").trim_end_matches("/mod").split('/').count()
}

/// The names that stand right behind a path's `::`: one, or each of a `{…}` group.
fn named_after(code: &str, from: usize, used: &mut Vec<(usize, String)>) {
    if !code[from..].starts_with('{') {
        used.push((from, word_at(code, from)));
        return;
    }
    let mut depth = 0;
    for (offset, byte) in code[from..].bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 1 && (byte == b'{' || byte == b',') {
            let name = &code[from + offset + 1..];
            let start = from + offset + 1 + (name.len() - name.trim_start().len());
            used.push((start, word_at(code, start)));
        }
    }
}

fn word_at(code: &str, from: usize) -> String {
    code[from..].bytes().take_while(|byte| is_word(*byte)).map(char::from).collect()
}

#[test]
fn a_breach_is_seen_however_it_is_written() {
    let seen = |path: &str, text: &str| breaches(&Source::new(path, text));
    assert_eq!(seen("src/hub/mod.rs", "\nuse crate::session::Session;").len(), 1);
    assert_eq!(
        seen("src/hub/mod.rs", "\nuse crate::session::X;")[0],
        "src/hub/mod.rs:2: hub uses session"
    );
    assert_eq!(seen("src/node/a.rs", "use crate::{hub::Hub, api::{x, y}, time};").len(), 1);
    assert_eq!(seen("src/node/a.rs", "use crate::{\n    hub::Hub,\n    cli,\n};").len(), 1);
    assert_eq!(seen("src/node/a.rs", "fn f() { let x = crate::server::run(); }").len(), 1);
    assert_eq!(seen("src/hub/shard.rs", "use super::super::node::Node;").len(), 1);
    assert_eq!(seen("src/api/http.rs", "use crate::transport::Socket;").len(), 1, "siblings");
    assert_eq!(seen("src/time.rs", "use crate::config::Config;").len(), 1, "a service climbs");
    assert_eq!(seen("src/telemetry/mod.rs", "use crate::hub::Hub;").len(), 1);
    assert_eq!(seen("src/client/mod.rs", "use crate::session::Session;").len(), 1);
    assert_eq!(seen("src/session/mod.rs", "use crate::client::Client;").len(), 1);
    assert_eq!(seen("src/time.rs", "use crate::client::Client;").len(), 1);
}

#[test]
fn what_the_arrows_allow_is_not_a_breach() {
    let seen = |path: &str, text: &str| breaches(&Source::new(path, text));
    let none: [String; 0] = [];
    assert_eq!(seen("src/session/run.rs", "use crate::{node::Node, time::Clock, hub};"), none);
    assert_eq!(seen("src/telemetry/logging.rs", "use crate::config::log::Log;"), none);
    assert_eq!(
        seen("src/hub/shard.rs", "//! Used by [`crate::session`].\nuse super::session;"),
        none
    );
    assert_eq!(seen("src/hub/mod.rs", "use crate::hub::shard; mod tests { use super::*; }"), none);
    assert_eq!(seen("src/client/mod.rs", "use crate::{protocol::frame::Codec, time};"), none);
    assert_eq!(seen("src/cli/bench.rs", "use crate::client::Client;"), none);
    assert_eq!(seen("src/main.rs", "use bobolink::cli;"), none);
}
