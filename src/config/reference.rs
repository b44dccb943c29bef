//! The repository's `config.toml`: every key, what it means, and its default.

/// The text of `config.toml`, which the binary carries.
pub const REFERENCE: &str = include_str!("../../config.toml");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::file::parse;
    use crate::config::load::tests::{NoFiles, from_file};
    use crate::config::report::Report;
    use crate::config::setting::{Form, Setting, join};
    use crate::config::tree::{Tree, Value};
    use crate::config::{Config, load};

    /// The reference with its settings uncommented.
    fn whole() -> String {
        let lines = REFERENCE.lines().map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|c: char| c == '[' || c.is_alphanumeric()) => {
                setting
            }
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn paths(at: &str, tree: &Tree, found: &mut BTreeSet<String>) {
        if !at.is_empty() {
            found.insert(at.to_owned());
        }
        if let Value::Table(entries) = &tree.value {
            for (key, tree) in entries {
                paths(&join(at, key), tree, found);
            }
        }
    }

    #[test]
    fn the_reference_as_it_stands_is_the_default() {
        let (sources, files) = from_file("config.toml", REFERENCE);
        let loaded = load(&sources, &files).expect("valid");
        assert_eq!(loaded.config, Config::default());
    }

    #[test]
    fn commented_defaults_are_true_and_known() {
        let tree = parse("config.toml", &whole()).expect("valid");
        let known: Vec<_> = Config::all_keys().into_iter().map(|key| key.path).collect();
        let mut report = Report::new(&known, &NoFiles);
        let mut config = Config::default();
        config.read(tree, "", &mut report);
        assert_eq!(report.errors, []);
        assert_eq!(report.notices, []);
        assert_eq!(config, Config::default());
    }

    #[test]
    fn every_key_is_in_the_reference() {
        let mut found = BTreeSet::new();
        paths("", &parse("config.toml", &whole()).expect("valid"), &mut found);
        let missing: Vec<_> = Config::all_keys()
            .into_iter()
            // Items have the keys of `without_namespace`, or are not looked into.
            .filter(|key| !key.path.contains("[]") && !found.contains(&key.path))
            .map(|key| key.path)
            .collect();
        assert_eq!(missing, Vec::<String>::new());
    }

    #[test]
    fn what_a_default_would_be_is_written_only_once() {
        let keys = Config::all_keys();
        let paths: BTreeSet<_> = keys.iter().map(|key| &key.path).collect();
        assert_eq!(paths.len(), keys.len());
        assert!(keys.iter().any(|key| key.form == Form::Items));
    }
}
