//! Who publishes where: the plan of a load, without any connection.

/// Channels, their publishers and their subscribers.
///
/// Member `m` subscribes to channel `m / subscribers`. Publications go to the channels in turn, and
/// within a channel to its publishers in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roster {
    pub channels: usize,
    /// Of each channel.
    pub subscribers: usize,
    pub publishers: Publishers,
}

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publishers {
    /// So many that stand outside. Each channel belongs to one of them or, when there are more of
    /// them than channels, to several.
    Apart(usize),
    /// The subscribers of a channel themselves.
    Members,
}

/// Where one publication belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub channel: usize,
    /// Which of the channel's publishers sends it.
    pub voice: usize,
    /// The number of that publisher among all; of a member where members publish.
    pub publisher: usize,
}

impl Roster {
    /// Where the publication with this number goes.
    pub fn place(&self, number: u64) -> Place {
        let (number, channels) = (number as usize, self.channels.max(1));
        let (channel, round) = (number % channels, number / channels);
        let voice = round % self.voices_of(channel);
        let publisher = match self.publishers {
            Publishers::Members => channel * self.subscribers + voice,
            Publishers::Apart(count) if count <= channels => channel % count.max(1),
            Publishers::Apart(_) => channel + voice * channels,
        };
        Place { channel, voice, publisher }
    }

    /// Publishers of the channel that has most.
    pub fn voices(&self) -> usize {
        self.voices_of(0)
    }

    /// Members in all.
    pub fn members(&self) -> usize {
        self.channels * self.subscribers
    }

    /// The channel of a member.
    pub fn channel_of(&self, member: usize) -> usize {
        member / self.subscribers.max(1)
    }

    fn voices_of(&self, channel: usize) -> usize {
        match self.publishers {
            Publishers::Members => self.subscribers.max(1),
            Publishers::Apart(count) => {
                (count.saturating_sub(channel)).div_ceil(self.channels.max(1)).max(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_publisher_has_its_turn_and_every_voice_is_one_publisher(
            channels in 1..8_usize,
            subscribers in 1..8_usize,
            publishers in prop_oneof![Just(Publishers::Members), (1..20_usize).prop_map(Publishers::Apart)],
        ) {
            let roster = Roster { channels, subscribers, publishers };
            let (mut seen, mut voices) = (HashSet::new(), HashMap::new());
            for number in 0..1_000 {
                let Place { channel, voice, publisher } = roster.place(number);
                prop_assert!(channel < channels && voice < roster.voices());
                prop_assert_eq!(*voices.entry((channel, voice)).or_insert(publisher), publisher);
                seen.insert(publisher);
                if publishers == Publishers::Members {
                    prop_assert_eq!(roster.channel_of(publisher), channel);
                }
            }
            let all = match publishers {
                Publishers::Members => roster.members(),
                Publishers::Apart(count) => count,
            };
            prop_assert_eq!(seen, (0..all).collect::<HashSet<_>>());
        }
    }

    #[test]
    fn a_channel_has_the_voices_that_fall_to_it() {
        let roster = Roster { channels: 2, subscribers: 3, publishers: Publishers::Apart(3) };
        assert_eq!(roster.voices(), 2);
        let publishers: Vec<_> = (0..6).map(|number| roster.place(number).publisher).collect();
        assert_eq!(publishers, [0, 1, 2, 1, 0, 1]);
        assert_eq!((roster.members(), roster.channel_of(2), roster.channel_of(3)), (6, 0, 1));
    }
}
