//! Environment variables: `BOBOLINK_` and the key's path in capitals, joined by `_`.
//!
//! Variables of Centrifugo (`CENTRIFUGO_…`) count where there is none of ours.

use std::collections::BTreeMap;

use super::Config;
use super::report::{Notice, NoticeKind, Report, nearest};
use super::setting::{Form, Key, Setting};
use super::tree::{Origin, Tree, Value};
use super::values::{Item, item_path};

/// The prefix of our variables.
pub const PREFIX: &str = "BOBOLINK_";
/// The prefix that counts where there is no variable of ours.
pub const FALLBACK_PREFIX: &str = "CENTRIFUGO_";
/// Variables that values refer to, not settings.
const REFERENCES: &str = "VAR_";

/// Applies the variables to `config`: first those of whole keys, then those of a list's items,
/// which the former may have brought in.
pub fn apply(
    config: &mut Config,
    variables: &BTreeMap<String, String>,
    keys: &[Key],
    report: &mut Report<'_>,
) {
    let given = settings(variables);
    let by_name: BTreeMap<String, &Key> =
        keys.iter().map(|key| (capitals(&key.path), key)).collect();
    let mut used = Vec::new();
    let mut others = Vec::new();
    for (suffix, (name, value)) in &given {
        match by_name.get(suffix) {
            Some(key) if !key.path.contains("[]") => {
                config.read(nested(&key.path, tree(name, value)), "", report);
                used.push(name.as_str());
            }
            _ => others.push((suffix, name, value)),
        }
    }
    for (suffix, name, value) in others {
        let open = |key: &Key| key.form == Form::Open && lies_under(suffix, &key.path);
        if keys.iter().any(open) || apply_to_item(config, suffix, name, value, report) {
            used.push(name);
        } else {
            unknown(name, suffix, &by_name, report);
        }
    }
    announce_fallback(&used, report);
}

/// Variables with a prefix by what follows it, ours before Centrifugo's; an empty one is unset.
fn settings(variables: &BTreeMap<String, String>) -> BTreeMap<String, (String, String)> {
    let mut given = BTreeMap::new();
    for prefix in [FALLBACK_PREFIX, PREFIX] {
        for (name, value) in variables {
            match name.strip_prefix(prefix) {
                Some(suffix) if !value.is_empty() && !suffix.starts_with(REFERENCES) => {
                    given.insert(suffix.to_owned(), (name.clone(), value.clone()));
                }
                _ => {}
            }
        }
    }
    given
}

/// `client.token` and a name such as `chat-room.1` as they stand in a variable's name.
fn capitals(path: &str) -> String {
    path.to_uppercase().replace(['.', '-'], "_")
}

fn tree(name: &str, value: &str) -> Tree {
    Tree::loose(value, Origin::Variable(name.into()))
}

/// The tree that has `leaf` at `path` and nothing else.
pub fn nested(path: &str, leaf: Tree) -> Tree {
    path.rsplit('.').fold(leaf, |inner, key| {
        let origin = inner.origin.clone();
        Tree { value: Value::Table(vec![(key.to_owned(), inner)]), origin }
    })
}

/// Applies a variable that names an item of a list, such as
/// `BOBOLINK_CHANNEL_NAMESPACES_CHAT_PRESENCE`; false if it names none.
fn apply_to_item(
    config: &mut Config,
    suffix: &str,
    name: &str,
    value: &str,
    report: &mut Report<'_>,
) -> bool {
    let tree = tree(name, value);
    read_item("channel.namespaces", &mut config.channel.namespaces, suffix, &tree, report)
        || read_item("rpc.namespaces", &mut config.rpc.namespaces, suffix, &tree, report)
        || read_item("proxies", &mut config.proxies, suffix, &tree, report)
        || read_item("consumers", &mut config.consumers, suffix, &tree, report)
}

fn read_item<T: Item>(
    at: &str,
    items: &mut [T],
    suffix: &str,
    leaf: &Tree,
    report: &mut Report<'_>,
) -> bool {
    let Some(rest) = suffix.strip_prefix(&format!("{}_", capitals(at))) else { return false };
    let mut options = Vec::new();
    T::keys("", &mut options);
    for (index, item) in items.iter_mut().enumerate() {
        let Some(option) = rest.strip_prefix(&format!("{}_", capitals(item.name()))) else {
            continue;
        };
        if let Some(key) = options.iter().find(|key| capitals(&key.path) == option) {
            let path = item_path(at, index, item.name());
            item.read(nested(&key.path, leaf.clone()), &path, report);
            return true;
        }
        if options.iter().any(|key| key.form == Form::Open && lies_under(option, &key.path)) {
            return true;
        }
    }
    false
}

/// Whether a variable's suffix names something below `path`.
fn lies_under(suffix: &str, path: &str) -> bool {
    path.is_empty() || suffix.starts_with(&format!("{}_", capitals(path)))
}

fn unknown(name: &str, suffix: &str, known: &BTreeMap<String, &Key>, report: &mut Report<'_>) {
    let hint = nearest(suffix, known.keys().map(String::as_str).filter(|key| !key.contains("[]")))
        .map(|known| format!(", did you mean {PREFIX}{known}?"))
        .unwrap_or_default();
    let text = format!("unknown variable {name} is ignored{hint}");
    report.notices.push(Notice { kind: NoticeKind::UnknownVariable, text });
}

fn announce_fallback(used: &[&str], report: &mut Report<'_>) {
    let fallback: Vec<_> =
        used.iter().copied().filter(|name| name.starts_with(FALLBACK_PREFIX)).collect();
    if !fallback.is_empty() {
        let text = format!(
            "using variables of Centrifugo where there is no {PREFIX}* one: {}",
            fallback.join(", ")
        );
        report.notices.push(Notice { kind: NoticeKind::CentrifugoVariables, text });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::load::tests::NoFiles;
    use crate::config::{Sources, load};

    #[test]
    fn no_two_keys_share_a_variable() {
        let mut seen = BTreeMap::new();
        for key in Config::all_keys() {
            if let Some(other) = seen.insert(capitals(&key.path), key.path.clone()) {
                panic!("{} and {other} have the same variable", key.path);
            }
        }
    }

    proptest! {
        #[test]
        fn no_value_of_any_variable_breaks_the_loader(
            key in proptest::sample::select(Config::all_keys()),
            value in r#"[-0-9a-z."{}\[\]:, ]{1,20}|.{1,20}"#,
        ) {
            let name = format!("{PREFIX}{}", capitals(&key.path.replace("[]", "_X")));
            let variables = [(name, value)].into();
            let _ = load(&Sources { variables, ..Sources::default() }, &NoFiles);
        }
    }
}
