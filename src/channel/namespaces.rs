//! All namespaces: which options a channel has.

use std::sync::Arc;

use ahash::HashMap;

use super::name::{Name, NameRules};
use super::options::Options;
use crate::config::ChannelConfig;

/// The options of all namespaces. Never changed; a reload puts another in its place.
#[derive(Clone, Debug)]
pub struct Namespaces {
    rules: NameRules,
    without_namespace: Arc<Options>,
    named: HashMap<String, Arc<Options>>,
}

/// A channel's name taken apart, and its options.
#[derive(Clone, Debug)]
pub struct Resolved<'c> {
    pub name: Name<'c>,
    pub options: Arc<Options>,
}

impl Namespaces {
    /// # Errors
    /// A namespace's `channel_regex` is none; a checked configuration has no such.
    pub fn new(config: &ChannelConfig) -> Result<Self, regex::Error> {
        let without_namespace = Options::new("", &config.without_namespace, config)?;
        let named = config.namespaces.iter().map(|namespace| {
            let options = Options::new(&namespace.name, &namespace.options, config)?;
            Ok((namespace.name.clone(), Arc::new(options)))
        });
        Ok(Self {
            rules: NameRules::new(config),
            without_namespace: Arc::new(without_namespace),
            named: named.collect::<Result<_, regex::Error>>()?,
        })
    }

    /// The channel's options; none if it is in a namespace that there is not (error 102).
    pub fn resolve<'c>(&self, channel: &'c str) -> Option<Resolved<'c>> {
        let name = self.rules.parse(channel);
        let options = match name.namespace {
            None => &self.without_namespace,
            Some(namespace) => self.named.get(namespace)?,
        };
        Some(Resolved { name, options: options.clone() })
    }

    /// What the symbols in names mean.
    pub fn rules(&self) -> &NameRules {
        &self.rules
    }
}

impl Resolved<'_> {
    /// Whether clients may use a channel of this name. The server API may use any.
    pub fn is_valid_name(&self) -> bool {
        self.name.fits && self.options.allows_characters(self.name.whole, self.name.rest)
    }

    /// The users that alone may subscribe, if the channel is limited to some.
    pub fn limited_to(&self) -> Option<&str> {
        self.name.users.filter(|_| self.options.settings.allow_user_limited_channels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ChannelOptions, Namespace};

    #[test]
    fn a_channel_has_the_options_of_its_namespace_and_no_others() {
        let config = ChannelConfig {
            namespaces: vec![Namespace {
                name: "chat".into(),
                options: ChannelOptions { presence: true, ..ChannelOptions::default() },
            }],
            ..ChannelConfig::default()
        };
        let namespaces = Namespaces::new(&config).expect("valid");
        let namespace = |channel: &'static str| {
            namespaces.resolve(channel).map(|resolved| resolved.options.namespace.clone())
        };
        assert_eq!(namespace("chat:x").as_deref(), Some("chat"));
        assert_eq!(namespace("$chat:x").as_deref(), Some("chat"));
        assert_eq!(namespace("chat").as_deref(), Some(""));
        assert_eq!(namespace(":x").as_deref(), Some(""));
        assert_eq!(namespace("chats:x"), None);
        assert_eq!(namespace("Chat:x"), None);
    }
}
