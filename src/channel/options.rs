//! The options in force for a channel.

use std::time::Duration;

use regex::Regex;

use crate::config::channel::{DeltaType, PublicationDataFormat, SubscriptionType};
use crate::config::{ChannelConfig, ChannelOptions};

/// Options of a namespace with everything they depend on worked out.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace; empty for channels without one.
    pub namespace: String,
    /// What was configured. Where there is a method of the same name, that is what counts.
    pub settings: ChannelOptions,
    regex: Option<Regex>,
    history_meta_ttl: Duration,
    publication_data_format: PublicationDataFormat,
}

impl Options {
    /// # Errors
    /// The namespace's `channel_regex` is none; a checked configuration has no such.
    pub fn new(
        namespace: &str,
        settings: &ChannelOptions,
        config: &ChannelConfig,
    ) -> Result<Self, regex::Error> {
        let regex = match settings.channel_regex.as_str() {
            "" => None,
            pattern => Some(Regex::new(pattern)?),
        };
        let history_meta_ttl = match settings.history_meta_ttl {
            Duration::ZERO => config.history_meta_ttl,
            own => own,
        };
        let publication_data_format = match settings.publication_data_format {
            PublicationDataFormat::Unset => config.publication_data_format,
            own => own,
        };
        Ok(Self {
            namespace: namespace.to_owned(),
            settings: settings.clone(),
            regex,
            history_meta_ttl,
            publication_data_format,
        })
    }

    /// Whether publications are kept.
    pub fn history_enabled(&self) -> bool {
        self.settings.history_size > 0 && !self.settings.history_ttl.is_zero()
    }

    /// How long a stream's epoch and top are kept after their last use.
    pub fn history_meta_ttl(&self) -> Duration {
        self.history_meta_ttl
    }

    /// What data of publications must look like.
    pub fn publication_data_format(&self) -> PublicationDataFormat {
        self.publication_data_format
    }

    /// Whether subscriptions are to a stream of publications.
    pub fn is_stream(&self) -> bool {
        self.settings.subscription_type == SubscriptionType::Stream
    }

    /// Whether clients may have publications as deltas of this type.
    pub fn allows_delta(&self, delta: DeltaType) -> bool {
        self.settings.allowed_delta_types.contains(&delta)
    }

    /// Whether clients may use a channel of this name, `rest` being what follows the namespace.
    pub fn allows_characters(&self, whole: &str, rest: &str) -> bool {
        match &self.regex {
            Some(regex) => regex.is_match(rest),
            None => whole.is_ascii(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(settings: ChannelOptions) -> Options {
        let config = ChannelConfig {
            publication_data_format: PublicationDataFormat::Json,
            ..ChannelConfig::default()
        };
        Options::new("chat", &settings, &config).expect("valid")
    }

    #[test]
    fn what_a_namespace_leaves_open_comes_from_all_channels() {
        let inherited = options(ChannelOptions::default());
        assert_eq!(inherited.history_meta_ttl(), Duration::from_secs(720 * 3_600));
        assert_eq!(inherited.publication_data_format(), PublicationDataFormat::Json);
        let own = options(ChannelOptions {
            history_meta_ttl: Duration::from_secs(7),
            publication_data_format: PublicationDataFormat::Binary,
            ..ChannelOptions::default()
        });
        assert_eq!(own.history_meta_ttl(), Duration::from_secs(7));
        assert_eq!(own.publication_data_format(), PublicationDataFormat::Binary);
    }

    #[test]
    fn history_needs_size_and_time() {
        let enabled = |history_size, seconds| {
            let history_ttl = Duration::from_secs(seconds);
            options(ChannelOptions { history_size, history_ttl, ..ChannelOptions::default() })
                .history_enabled()
        };
        assert!(enabled(1, 1));
        assert!(!enabled(0, 1) && !enabled(1, 0) && !enabled(0, 0));
    }

    #[test]
    fn names_are_ascii_unless_a_pattern_says_otherwise() {
        let plain = options(ChannelOptions::default());
        assert!(plain.allows_characters("chat:any thing", "any thing"));
        assert!(!plain.allows_characters("chat:é", "é"));
        let pattern = ChannelOptions { channel_regex: "^[a-zé]+$".into(), ..Default::default() };
        assert!(options(pattern.clone()).allows_characters("chat:é", "é"));
        assert!(!options(pattern).allows_characters("chat:1", "1"));
        let anywhere = ChannelOptions { channel_regex: "b".into(), ..Default::default() };
        assert!(options(anywhere).allows_characters("chat:abc", "abc"), "not anchored");
    }
}
