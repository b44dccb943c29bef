//! The rules in force for a channel.

use std::time::Duration;

use regex::Regex;
use serde::de::IgnoredAny;

use crate::config::channel::{DeltaType, PublicationDataFormat};
use crate::config::{ChannelConfig, ChannelOptions};

/// Options of a namespace, with what they take from the options of all channels worked out.
#[derive(Clone, Debug)]
pub struct ChannelRules {
    /// What was configured. Where there is a field or a method of the same name, that one counts.
    pub options: ChannelOptions,
    /// How long a stream's epoch and top are kept after their last use.
    pub history_meta_ttl: Duration,
    /// Clients that ask may receive a number in the place of the channel's name.
    pub compaction: bool,
    publication_data_format: PublicationDataFormat,
    regex: Option<Regex>,
}

impl ChannelRules {
    /// # Errors
    /// The namespace's `channel_regex` is none; a checked configuration has no such.
    pub fn new(options: &ChannelOptions, config: &ChannelConfig) -> Result<Self, regex::Error> {
        let regex = match options.channel_regex.as_str() {
            "" => None,
            pattern => Some(Regex::new(pattern)?),
        };
        let history_meta_ttl = match options.history_meta_ttl {
            Duration::ZERO => config.history_meta_ttl,
            own => own,
        };
        let publication_data_format = match options.publication_data_format {
            PublicationDataFormat::Unset => config.publication_data_format,
            own => own,
        };
        Ok(Self {
            options: options.clone(),
            history_meta_ttl,
            compaction: config.compaction,
            publication_data_format,
            regex,
        })
    }

    /// Whether publications are kept.
    pub fn history_enabled(&self) -> bool {
        self.options.history_size > 0 && !self.options.history_ttl.is_zero()
    }

    /// How long the archive keeps messages; none if for ever, or not at all.
    pub fn archived_for(&self) -> Option<Duration> {
        let ttl = self.options.history_archive_ttl;
        (self.options.history_archive && !ttl.is_zero()).then_some(ttl)
    }

    /// Whether clients may have publications as Fossil deltas.
    pub fn allows_fossil_delta(&self) -> bool {
        self.options.allowed_delta_types.contains(&DeltaType::Fossil)
    }

    /// Whether this may be the data of a publication, by a client or by the server API.
    ///
    /// # Errors
    /// Says what it must be.
    pub fn check_data(&self, data: &[u8]) -> Result<(), &'static str> {
        let (fine, expected) = match self.publication_data_format {
            PublicationDataFormat::Unset => (!data.is_empty(), "data must not be empty"),
            PublicationDataFormat::Json => (is_json(data), "data must be JSON"),
            PublicationDataFormat::JsonObject => {
                let first = data.iter().find(|byte| !byte.is_ascii_whitespace());
                (first == Some(&b'{') && is_json(data), "data must be a JSON object")
            }
            PublicationDataFormat::Binary => (true, ""),
        };
        if fine { Ok(()) } else { Err(expected) }
    }

    /// Whether clients may use a channel called `whole`, `rest` being what follows the namespace.
    pub(super) fn allows_characters(&self, whole: &str, rest: &str) -> bool {
        match &self.regex {
            Some(regex) => regex.is_match(rest),
            None => whole.is_ascii(),
        }
    }
}

/// What is skipped while parsing is not checked to be UTF-8, so that comes first.
fn is_json(data: &[u8]) -> bool {
    std::str::from_utf8(data).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(options: ChannelOptions) -> ChannelRules {
        let config = ChannelConfig {
            publication_data_format: PublicationDataFormat::Json,
            ..ChannelConfig::default()
        };
        ChannelRules::new(&options, &config).expect("valid")
    }

    #[test]
    fn what_a_namespace_leaves_open_comes_from_all_channels() {
        let inherited = rules(ChannelOptions::default());
        assert_eq!(inherited.history_meta_ttl, Duration::from_secs(720 * 3_600));
        assert_eq!(inherited.check_data(b"x"), Err("data must be JSON"));
        let own = rules(ChannelOptions {
            history_meta_ttl: Duration::from_secs(7),
            publication_data_format: PublicationDataFormat::Binary,
            ..ChannelOptions::default()
        });
        assert_eq!(own.history_meta_ttl, Duration::from_secs(7));
        assert_eq!(own.check_data(b"x"), Ok(()));
    }

    #[test]
    fn history_needs_size_and_time() {
        let enabled = |history_size, seconds| {
            let history_ttl = Duration::from_secs(seconds);
            rules(ChannelOptions { history_size, history_ttl, ..ChannelOptions::default() })
                .history_enabled()
        };
        assert!(enabled(1, 1));
        assert!(!enabled(0, 1) && !enabled(1, 0) && !enabled(0, 0));
    }

    #[test]
    fn names_are_ascii_unless_a_pattern_says_otherwise() {
        let plain = rules(ChannelOptions::default());
        assert!(plain.allows_characters("chat:any thing", "any thing"));
        assert!(!plain.allows_characters("chat:é", "é"));
        let pattern = ChannelOptions { channel_regex: "^[a-zé]+$".into(), ..Default::default() };
        assert!(rules(pattern.clone()).allows_characters("chat:é", "é"));
        assert!(!rules(pattern).allows_characters("chat:1", "1"));
        let anywhere = ChannelOptions { channel_regex: "b".into(), ..Default::default() };
        assert!(rules(anywhere).allows_characters("chat:abc", "abc"), "not anchored");
    }

    #[test]
    fn data_has_the_format_that_is_asked_for() {
        use PublicationDataFormat::{Binary, Json, JsonObject, Unset};
        let rows: [(PublicationDataFormat, &[u8], bool); 17] = [
            (Unset, b"", false),
            (Unset, b"\xff", true),
            (Unset, b"{}", true),
            (Json, b"", false),
            (Json, b"1", true),
            (Json, b" [1, {}] ", true),
            (Json, b"{} {}", false),
            (Json, b"{", false),
            (Json, b"\xff", false),
            (Json, b"\"\xff\"", false),
            (JsonObject, b"", false),
            (JsonObject, b" \n{\"a\": 1}", true),
            (JsonObject, b"[1]", false),
            (JsonObject, b"{\"a\"}", false),
            (Binary, b"", true),
            (Binary, b"\xff", true),
            (Binary, b"{", true),
        ];
        for (publication_data_format, data, fine) in rows {
            let config = ChannelConfig { publication_data_format, ..ChannelConfig::default() };
            let rules = ChannelRules::new(&ChannelOptions::default(), &config).expect("valid");
            assert_eq!(
                rules.check_data(data).is_ok(),
                fine,
                "{publication_data_format:?} {data:?}"
            );
        }
    }
}
