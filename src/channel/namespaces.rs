//! All namespaces: which rules a channel has.

use std::sync::Arc;
use std::time::Duration;

use ahash::HashMap;

use super::name::NameRules;
use super::permission::Refusal;
use super::rules::ChannelRules;
use crate::config::ChannelConfig;

/// The rules of all namespaces. Never changed; a reload puts another in its place.
#[derive(Clone, Debug)]
pub struct Namespaces {
    names: NameRules,
    without_namespace: Arc<ChannelRules>,
    named: HashMap<String, Arc<ChannelRules>>,
}

impl Namespaces {
    /// # Errors
    /// A namespace's `channel_regex` is none; a checked configuration has no such.
    pub fn new(config: &ChannelConfig) -> Result<Self, regex::Error> {
        let rules = |options| ChannelRules::new(options, config).map(Arc::new);
        let mut named = HashMap::default();
        for namespace in &config.namespaces {
            named.insert(namespace.name.clone(), rules(&namespace.options)?);
        }
        let without_namespace = rules(&config.without_namespace)?;
        Ok(Self { names: NameRules::new(config), without_namespace, named })
    }

    /// The channel's rules; none if it is in a namespace that there is not.
    pub fn resolve(&self, channel: &str) -> Option<Arc<ChannelRules>> {
        match self.names.parse(channel).namespace {
            None => Some(Arc::clone(&self.without_namespace)),
            Some(namespace) => self.named.get(namespace).map(Arc::clone),
        }
    }

    /// Whether clients may use a channel of this name. The server API may use any.
    ///
    /// # Errors
    /// The name is too long or has wrong characters ([`Refusal::BadRequest`]), or its namespace is
    /// unknown.
    pub fn check_name(&self, channel: &str) -> Result<(), Refusal> {
        let name = self.names.parse(channel);
        if !name.fits {
            return Err(Refusal::BadRequest);
        }
        let rules = self.resolve(channel).ok_or(Refusal::UnknownChannel)?;
        let valid = rules.allows_characters(channel, name.rest);
        if valid { Ok(()) } else { Err(Refusal::BadRequest) }
    }

    /// The name of a user's own channel, in `namespace` or, if that is empty, in none.
    pub fn personal_channel(&self, namespace: &str, user: &str) -> String {
        self.names.personal_channel(namespace, user)
    }

    /// How long the archive keeps the messages of a channel; none if for ever, or not at all.
    pub fn archived_for(&self, channel: &str) -> Option<Duration> {
        self.resolve(channel)?.archived_for()
    }

    /// What the names of all channels begin with whose archived messages expire; names of others may
    /// begin so, too.
    pub fn expiring(&self) -> Vec<String> {
        if self.without_namespace.archived_for().is_some() {
            return vec![String::new()];
        }
        let expires = |rules: &ChannelRules| rules.archived_for().is_some();
        let named = self.named.iter().filter(|(_, rules)| expires(rules));
        let mut prefixes: Vec<_> = named.flat_map(|(name, _)| self.names.prefixes(name)).collect();
        prefixes.sort_unstable();
        prefixes
    }

    /// What the symbols in names mean.
    pub(super) fn names(&self) -> &NameRules {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ChannelOptions, Namespace};

    fn with_chat() -> Namespaces {
        let options = ChannelOptions {
            presence: true,
            channel_regex: "^[a-zé]*$".into(),
            ..ChannelOptions::default()
        };
        let config = ChannelConfig {
            namespaces: vec![Namespace { name: "chat".into(), options }],
            ..ChannelConfig::default()
        };
        Namespaces::new(&config).expect("valid")
    }

    #[test]
    fn a_channel_has_the_rules_of_its_namespace_and_no_others() {
        let namespaces = with_chat();
        let presence = |channel| namespaces.resolve(channel).map(|rules| rules.options.presence);
        assert_eq!(presence("chat:x"), Some(true));
        assert_eq!(presence("$chat:x"), Some(true));
        assert_eq!(presence("chat"), Some(false));
        assert_eq!(presence(":x"), Some(false));
        assert_eq!(presence("chats:x"), None);
        assert_eq!(presence("Chat:x"), None);
    }

    #[test]
    fn what_expires_is_found_by_the_beginning_of_its_name() {
        let day = Duration::from_secs(86_400);
        let options = |history_archive, history_archive_ttl| ChannelOptions {
            history_archive,
            history_archive_ttl,
            ..ChannelOptions::default()
        };
        let of = |without_namespace: ChannelOptions, named: &[(&str, bool, Duration)]| {
            let namespace = |(name, archive, ttl): &(&str, bool, Duration)| Namespace {
                name: (*name).to_owned(),
                options: options(*archive, *ttl),
            };
            let namespaces = named.iter().map(namespace).collect();
            let config = ChannelConfig { without_namespace, namespaces, ..Default::default() };
            Namespaces::new(&config).expect("valid")
        };
        let named = [("day", true, day), ("ever", true, Duration::ZERO), ("off", false, day)];
        let found = of(ChannelOptions::default(), &named);
        assert_eq!(found.expiring(), ["$day:", "day:"]);
        assert_eq!(found.archived_for("$day:x"), Some(day));
        for kept in ["ever:x", "off:x", "x", "unknown:x"] {
            assert_eq!(found.archived_for(kept), None, "{kept}");
        }
        let found = of(options(true, day), &named);
        assert_eq!(found.expiring(), [""], "any name may be without a namespace");
        assert_eq!((found.archived_for("x"), found.archived_for("ever:x")), (Some(day), None));
    }

    #[test]
    fn names_are_checked_by_length_then_namespace_then_characters() {
        let check = |channel: &str| with_chat().check_name(channel);
        assert_eq!(check("news"), Ok(()));
        assert_eq!(check("é"), Err(Refusal::BadRequest));
        assert_eq!(check("chat:é"), Ok(()));
        assert_eq!(check("chat:1"), Err(Refusal::BadRequest));
        assert_eq!(check("talk:x"), Err(Refusal::UnknownChannel));
        assert_eq!(check(&"x".repeat(255)), Ok(()));
        assert_eq!(check(&"x".repeat(256)), Err(Refusal::BadRequest));
        assert_eq!(check(&format!("talk:{}", "x".repeat(256))), Err(Refusal::BadRequest));
    }
}
