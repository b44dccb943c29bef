//! What a subscription comes with.

use super::options::Options;
use super::permission::{Asker, may_read_history, may_see_presence};
use crate::config::channel::RecoveryMode;

/// What a client asks for with a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    pub positioned: bool,
    pub recoverable: bool,
    pub join_leave: bool,
}

/// Options that a token sets for one subscription, in the place of the namespace's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    pub presence: Option<bool>,
    pub join_leave: Option<bool>,
    pub force_push_join_leave: Option<bool>,
    pub force_recovery: Option<bool>,
    pub force_positioning: Option<bool>,
}

/// What a subscription comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// The subscriber is in the channel's presence.
    pub presence: bool,
    /// Others hear of its coming and going.
    pub emit_join_leave: bool,
    /// It hears of the coming and going of others.
    pub push_join_leave: bool,
    /// Lost publications are noticed.
    pub positioned: bool,
    /// Lost publications are recovered; comes with `positioned`.
    pub recoverable: bool,
    pub recovery_mode: RecoveryMode,
    /// The latest publication is delivered even if the client did not ask to recover.
    pub auto_cache_recover: bool,
}

impl Features {
    /// The features of an accepted subscription. A server-side subscription has no wishes.
    pub fn new(options: &Options, overrides: Overrides, wishes: Wishes, asker: &Asker<'_>) -> Self {
        let settings = &options.settings;
        let subscriber = Asker { subscribed: true, ..*asker };
        let join_leave = overrides.join_leave.unwrap_or(settings.join_leave);
        let push_all = overrides.force_push_join_leave.unwrap_or(settings.force_push_join_leave);
        let push_join_leave =
            push_all || wishes.join_leave && join_leave && may_see_presence(options, &subscriber);

        let history_reader = may_read_history(options, &subscriber);
        let recoverable = overrides.force_recovery.unwrap_or(settings.force_recovery)
            || wishes.recoverable && (settings.allow_recovery || history_reader);
        // A channel without history has nothing to recover; saying it were recoverable would let
        // the client believe that it missed nothing.
        let recoverable = recoverable && options.history_enabled();
        let positioned = recoverable
            || overrides.force_positioning.unwrap_or(settings.force_positioning)
            || wishes.positioned && (settings.allow_positioning || history_reader);

        Self {
            presence: overrides.presence.unwrap_or(settings.presence),
            emit_join_leave: join_leave,
            push_join_leave,
            positioned,
            recoverable,
            recovery_mode: settings.force_recovery_mode,
            auto_cache_recover: settings.auto_cache_recover && recoverable,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{ChannelConfig, ChannelOptions};

    fn with_history() -> ChannelOptions {
        ChannelOptions {
            history_size: 1,
            history_ttl: Duration::from_secs(1),
            ..ChannelOptions::default()
        }
    }

    fn features(settings: ChannelOptions, overrides: Overrides, wishes: Wishes) -> Features {
        let options =
            Options::new("", &settings, &ChannelConfig::default()).expect("valid options");
        let asker = Asker { user: "42", insecure: false, subscribed: false };
        Features::new(&options, overrides, wishes, &asker)
    }

    #[test]
    fn positions_and_recovery_are_forced_allowed_or_earned_by_reading_history() {
        let all = Wishes { positioned: true, recoverable: true, join_leave: true };
        let none = Wishes::default();
        // options, wishes, positioned, recoverable
        let cases = [
            (with_history(), all, false, false),
            (ChannelOptions { force_positioning: true, ..with_history() }, none, true, false),
            (ChannelOptions { allow_positioning: true, ..with_history() }, none, false, false),
            (ChannelOptions { allow_positioning: true, ..with_history() }, all, true, false),
            (ChannelOptions { force_recovery: true, ..with_history() }, none, true, true),
            (ChannelOptions { allow_recovery: true, ..with_history() }, none, false, false),
            (ChannelOptions { allow_recovery: true, ..with_history() }, all, true, true),
            (
                ChannelOptions { allow_history_for_subscriber: true, ..with_history() },
                all,
                true,
                true,
            ),
            (
                ChannelOptions { allow_history_for_subscriber: true, ..with_history() },
                none,
                false,
                false,
            ),
            (ChannelOptions { allow_recovery: true, ..Default::default() }, all, false, false),
        ];
        for (settings, wishes, positioned, recoverable) in cases {
            let features = features(settings.clone(), Overrides::default(), wishes);
            assert_eq!(
                (features.positioned, features.recoverable),
                (positioned, recoverable),
                "{wishes:?} {settings:?}"
            );
        }
    }

    #[test]
    fn joins_are_pushed_to_all_or_to_those_who_ask_and_may_see_presence() {
        let wish = Wishes { join_leave: true, ..Wishes::default() };
        let on = ChannelOptions { join_leave: true, ..ChannelOptions::default() };
        let seeing = ChannelOptions { allow_presence_for_subscriber: true, ..on.clone() };
        let forced = ChannelOptions { force_push_join_leave: true, ..on.clone() };
        let off = ChannelOptions { join_leave: false, ..seeing.clone() };
        let pushed = |settings: &ChannelOptions, wishes| {
            features(settings.clone(), Overrides::default(), wishes).push_join_leave
        };
        assert!(!pushed(&on, wish), "no permission");
        assert!(pushed(&seeing, wish));
        assert!(!pushed(&seeing, Wishes::default()), "not asked");
        assert!(pushed(&forced, Wishes::default()));
        assert!(!pushed(&off, wish), "nobody tells");
    }

    #[test]
    fn overrides_win_both_ways() {
        let all_on = ChannelOptions {
            presence: true,
            join_leave: true,
            force_push_join_leave: true,
            force_recovery: true,
            force_positioning: true,
            ..with_history()
        };
        for value in [true, false] {
            let overrides = Overrides {
                presence: Some(value),
                join_leave: Some(value),
                force_push_join_leave: Some(value),
                force_recovery: Some(value),
                force_positioning: Some(value),
            };
            let from = if value { with_history() } else { all_on.clone() };
            let features = features(from, overrides, Wishes::default());
            assert_eq!(features.presence, value);
            assert_eq!(features.emit_join_leave, value);
            assert_eq!(features.push_join_leave, value);
            assert_eq!(features.recoverable, value);
            assert_eq!(features.positioned, value);
        }
    }

    #[test]
    fn the_latest_publication_comes_unasked_only_with_recovery() {
        let settings = ChannelOptions {
            force_recovery: true,
            force_recovery_mode: RecoveryMode::Cache,
            auto_cache_recover: true,
            ..with_history()
        };
        let auto =
            |overrides| features(settings.clone(), overrides, Wishes::default()).auto_cache_recover;
        assert!(auto(Overrides::default()));
        assert!(!auto(Overrides { force_recovery: Some(false), ..Overrides::default() }));
    }
}
