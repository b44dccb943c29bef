//! What reading a configuration brings to light: errors, all of them at once, and notices.

use std::collections::BTreeMap;
use std::fmt;

use super::tree::{Origin, Tree, Value};

/// Collects errors and notices while sources are read, and remembers where each value came from.
pub struct Report<'a> {
    pub errors: Vec<ConfigError>,
    pub notices: Vec<Notice>,
    origins: BTreeMap<String, Origin>,
    known: &'a [String],
    files: &'a dyn Files,
}

/// Reads files; a seam for tests.
pub trait Files {
    /// The content of the file at `path`, relative to the working directory.
    fn read(&self, path: &str) -> std::io::Result<String>;
}

/// One thing wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Path of the key, e.g. `channel.namespaces[0](chat).history_ttl`; empty when a whole source
    /// is unreadable.
    pub key: String,
    /// What is wrong and what is allowed.
    pub message: String,
    pub origin: Origin,
}

/// Everything wrong with the configuration; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

/// Something to tell the operator that does not keep the server from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub kind: NoticeKind,
    pub text: String,
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// A key of the file that means nothing.
    UnknownKey,
    /// A variable with one of our prefixes that means nothing.
    UnknownVariable,
    /// Variables of Centrifugo are in use.
    CentrifugoVariables,
    /// A setting that works and should be looked at.
    Advice,
}

impl<'a> Report<'a> {
    /// `known` are the paths of all keys, `files` and `variables` what values may refer to.
    pub fn new(known: &'a [String], files: &'a dyn Files) -> Self {
        Self { errors: Vec::new(), notices: Vec::new(), origins: BTreeMap::new(), known, files }
    }

    /// Puts a well-formed `value` into its place, or reports what stands in `from` instead.
    pub fn take<T>(
        &mut self,
        slot: &mut T,
        value: Option<T>,
        from: &Tree,
        at: &str,
        allowed: impl fmt::Display,
    ) {
        match value {
            Some(value) => {
                *slot = value;
                self.origins.insert(at.to_owned(), from.origin.clone());
            }
            None => {
                let message = format!("{} is not allowed, expected {allowed}", from.value);
                self.refuse(at, message, from.origin.clone());
            }
        }
    }

    /// The entries of a table, or an error and nothing.
    pub fn table(&mut self, from: Tree, at: &str) -> Vec<(String, Tree)> {
        match from.value {
            Value::Table(entries) => entries,
            Value::Null => Vec::new(),
            other => {
                let found = if matches!(other, Value::List(_)) { "a list" } else { "a value" };
                let message = format!("{found} is not allowed, expected a table");
                self.refuse(at, message, from.origin);
                Vec::new()
            }
        }
    }

    /// Adds an error about a value of `origin`.
    pub fn refuse(&mut self, at: &str, message: impl Into<String>, origin: Origin) {
        self.errors.push(ConfigError { key: at.to_owned(), message: message.into(), origin });
    }

    /// Adds an error about the value that ended up at the first of `keys` and does not go with the
    /// others, unless one of them has an error already: then there is no telling what was meant.
    /// The place named is that of the first key that was given at all.
    pub fn fault(&mut self, keys: &[&str], message: impl Into<String>) {
        let Some(first) = keys.first() else { return };
        if !self.errors.iter().any(|error| keys.contains(&error.key.as_str())) {
            let given = keys.iter().find_map(|key| self.origins.get(*key));
            let origin = given.cloned().unwrap_or_default();
            self.refuse(first, message, origin);
        }
    }

    /// Adds something to look at.
    pub fn advise(&mut self, text: impl Into<String>) {
        self.notices.push(Notice { kind: NoticeKind::Advice, text: text.into() });
    }

    /// Remembers where the value at `at` came from.
    pub fn came_from(&mut self, at: &str, origin: &Origin) {
        self.origins.insert(at.to_owned(), origin.clone());
    }

    /// Notes a key that means nothing, and the nearest one that does.
    pub fn unknown_key(&mut self, at: &str, origin: &Origin) {
        let hint = nearest(at, self.known.iter().flat_map(|key| with_sections(key)))
            .map(|known| format!(", did you mean {known}?"))
            .unwrap_or_default();
        let text = format!("unknown key {at} ({origin}) is ignored{hint}");
        self.notices.push(Notice { kind: NoticeKind::UnknownKey, text });
    }

    /// Reads a file that a value names.
    pub fn file(&self, path: &str) -> std::io::Result<String> {
        self.files.read(path)
    }
}

/// A key and the sections that it is in.
fn with_sections(key: &str) -> impl Iterator<Item = &str> {
    let sections = key.match_indices('.').filter_map(|(dot, _)| key.get(..dot));
    sections.chain([key])
}

/// The candidate most like `name`, if one is like it at all.
///
/// Position markers of list items do not count, and neither does the letter case.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Below this two names merely share letters.
    const ALIKE: f64 = 0.72;
    let name = plain(name);
    candidates
        .map(|candidate| {
            (strsim::normalized_damerau_levenshtein(&name, &plain(candidate)), candidate)
        })
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// `channel.namespaces[0](chat).x` and `CHANNEL_NAMESPACES_X` in one spelling.
fn plain(name: &str) -> String {
    let mut inside = false;
    name.chars()
        .filter(|&c| {
            inside = matches!(c, '[' | '(') || inside && !matches!(c, ']' | ')');
            !inside && !matches!(c, ']' | ')')
        })
        .map(|c| if c == '.' { '_' } else { c.to_ascii_lowercase() })
        .collect()
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.as_str(), &self.origin) {
            ("", origin) => write!(f, "{origin}: {}", self.message),
            (key, Origin::Default) => write!(f, "{key}: {}", self.message),
            (key, origin) => write!(f, "{key}: {} ({origin})", self.message),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration has errors:")?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_finds_its_neighbour_across_spellings() {
        let known = ["client.ping_interval", "channel.namespaces[].history_ttl", "http_api.key"];
        let find = |name| nearest(name, known.into_iter());
        assert_eq!(find("client.ping_intervall"), Some("client.ping_interval"));
        assert_eq!(
            find("channel.namespaces[3](chat).histroy_ttl"),
            Some("channel.namespaces[].history_ttl")
        );
        assert_eq!(find("HTTP_API_KYE"), Some("http_api.key"));
        assert_eq!(find("something.else.entirely"), None);
    }

    #[test]
    fn a_misspelt_section_is_found_too() {
        let keys = ["http_server.port".to_owned(), "http_server.tls.enabled".to_owned()];
        let find = |name| nearest(name, keys.iter().flat_map(|key| with_sections(key)));
        assert_eq!(find("http_servr"), Some("http_server"));
        assert_eq!(find("http_server.tsl"), Some("http_server.tls"));
        assert_eq!(find("http_server.prot"), Some("http_server.port"));
    }
}
