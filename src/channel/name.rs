//! Names of channels and what their symbols say.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::config::ChannelConfig;

/// The name of a channel; cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(Arc<str>);

/// The symbols that structure a name; an empty one is out of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRules {
    private_prefix: String,
    namespace_boundary: String,
    user_boundary: String,
    user_separator: String,
    max_length: usize,
}

/// A name taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'c> {
    /// All of it.
    pub whole: &'c str,
    /// The namespace it says it is in.
    pub namespace: Option<&'c str>,
    /// What follows the namespace; without one the whole name.
    pub rest: &'c str,
    /// Only for those with a subscription token.
    pub private: bool,
    /// The list of users after the last user boundary.
    pub users: Option<&'c str>,
    /// Not longer than clients may make it.
    pub fits: bool,
}

impl NameRules {
    pub fn new(config: &ChannelConfig) -> Self {
        Self {
            private_prefix: config.private_prefix.clone(),
            namespace_boundary: config.namespace_boundary.clone(),
            user_boundary: config.user_boundary.clone(),
            user_separator: config.user_separator.clone(),
            max_length: config.max_length as usize,
        }
    }

    /// Takes a name apart. Every name has a meaning; whether clients may use it is another matter.
    pub fn parse<'c>(&self, whole: &'c str) -> Name<'c> {
        let public = strip_symbol(whole, &self.private_prefix);
        let (namespace, rest) =
            match split_symbol(public.unwrap_or(whole), &self.namespace_boundary) {
                Some(("", rest)) => (None, rest),
                Some((namespace, rest)) => (Some(namespace), rest),
                None => (None, whole),
            };
        let users = match self.user_boundary.as_str() {
            "" => None,
            boundary => whole.rsplit_once(boundary).map(|(_, users)| users),
        };
        let fits = whole.len() <= self.max_length;
        Name { whole, namespace, rest, private: public.is_some(), users, fits }
    }

    /// Whether a name's list of users holds `user`. The anonymous user is in no list, not even in
    /// one with a gap such as `news#`.
    pub fn lists_user(&self, users: &str, user: &str) -> bool {
        match self.user_separator.as_str() {
            _ if user.is_empty() => false,
            "" => users == user,
            separator => users.split(separator).any(|listed| listed == user),
        }
    }

    /// How the names of a namespace's channels begin.
    pub fn prefixes(&self, namespace: &str) -> Vec<String> {
        if self.namespace_boundary.is_empty() {
            return Vec::new();
        }
        let public = format!("{namespace}{}", self.namespace_boundary);
        match self.private_prefix.as_str() {
            "" => vec![public],
            prefix => vec![format!("{prefix}{public}"), public],
        }
    }

    /// The name of a user's own channel, in `namespace` or, if that is empty, in none.
    pub fn personal_channel(&self, namespace: &str, user: &str) -> String {
        let boundary = if namespace.is_empty() { "" } else { &self.namespace_boundary };
        format!("{namespace}{boundary}{}{user}", self.user_boundary)
    }
}

fn strip_symbol<'c>(name: &'c str, symbol: &str) -> Option<&'c str> {
    if symbol.is_empty() { None } else { name.strip_prefix(symbol) }
}

fn split_symbol<'c>(name: &'c str, symbol: &str) -> Option<(&'c str, &'c str)> {
    if symbol.is_empty() { None } else { name.split_once(symbol) }
}

impl Channel {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Channel {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Channel {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Channel {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for Channel {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn rules() -> NameRules {
        NameRules::new(&ChannelConfig::default())
    }

    #[test]
    fn symbols_take_a_name_apart() {
        // whole, namespace, rest, private, users
        let cases = [
            ("news", None, "news", false, None),
            ("chat:index", Some("chat"), "index", false, None),
            ("chat:a:b", Some("chat"), "a:b", false, None),
            ("$chat:index", Some("chat"), "index", true, None),
            ("$news", None, "$news", true, None),
            ("$$chat:x", Some("$chat"), "x", true, None),
            (":x", None, "x", false, None),
            ("$:x", None, "x", true, None),
            ("chat:", Some("chat"), "", false, None),
            ("news#42", None, "news#42", false, Some("42")),
            ("chat:a#b#1,2", Some("chat"), "a#b#1,2", false, Some("1,2")),
            ("news#", None, "news#", false, Some("")),
        ];
        for (whole, namespace, rest, private, users) in cases {
            let expected = Name { whole, namespace, rest, private, users, fits: true };
            assert_eq!(rules().parse(whole), expected);
        }
    }

    #[test]
    fn symbols_can_be_others_or_none() {
        let config = ChannelConfig {
            private_prefix: String::new(),
            namespace_boundary: "::".into(),
            user_boundary: String::new(),
            user_separator: String::new(),
            ..ChannelConfig::default()
        };
        let rules = NameRules::new(&config);
        let name = rules.parse("$a:b::c#1");
        assert_eq!((name.namespace, name.rest), (Some("$a:b"), "c#1"));
        assert_eq!((name.private, name.users), (false, None));
        assert!(rules.lists_user("1,2", "1,2") && !rules.lists_user("1,2", "1"));
        assert_eq!(rules.parse("plain").namespace, None);
    }

    #[test]
    fn length_counts_bytes() {
        assert!(rules().parse(&"x".repeat(255)).fits);
        assert!(!rules().parse(&"x".repeat(256)).fits);
        assert!(!rules().parse(&"é".repeat(128)).fits);
    }

    #[test]
    fn only_listed_users_are_listed() {
        assert!(rules().lists_user("42", "42"));
        assert!(rules().lists_user("1,42,3", "42"));
        assert!(!rules().lists_user("142", "42"));
        for gap in ["", ",", "1,", ",1"] {
            assert!(!rules().lists_user(gap, ""), "the anonymous user is in {gap:?}");
        }
    }

    #[test]
    fn personal_channels_are_limited_to_their_user() {
        for (namespace, expected) in [("", "#42"), ("me", "me:#42")] {
            let channel = rules().personal_channel(namespace, "42");
            assert_eq!(channel, expected);
            assert_eq!(rules().parse(&channel).users, Some("42"));
        }
    }

    #[test]
    fn a_channel_is_found_by_its_name() {
        let map = HashMap::from([(Channel::from("news"), 1)]);
        assert_eq!(map.get("news"), Some(&1));
    }

    proptest! {
        #[test]
        fn parsing_takes_any_name(whole in "[$:#,a-cé]{0,12}") {
            let name = rules().parse(&whole);
            prop_assert!(whole.ends_with(name.rest));
            prop_assert!(name.users.is_none_or(|users| whole.ends_with(users)));
            prop_assert_ne!(name.namespace, Some(""));
        }
    }
}
