//! The script as lines of text, for those who are not Rust.

use std::str::FromStr;
use std::time::Duration;

use super::state::{Act, MEMBERS};

/// What can be said, one a line.
pub const WORDS: &str = "primary N, no-primary, down N, up N, crash, lose COUNT, delay MILLISECONDS, \
                         half-open N, stale N, restart; N is 1, 2 or 3";

impl FromStr for Act {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let refused = || format!("'{}' is none of: {WORDS}", line.trim());
        let mut words = line.split_whitespace();
        let (word, number) = (words.next(), words.next().map(str::parse::<u64>));
        let number = number.transpose().map_err(|_| refused())?;
        let member = || {
            let member = number.and_then(|number| usize::try_from(number).ok());
            member.filter(|member| (1..=MEMBERS).contains(member)).ok_or_else(refused)
        };
        Ok(match (word.unwrap_or_default(), number) {
            ("primary", _) => Self::Primary(member()?),
            ("no-primary", None) => Self::NoPrimary,
            ("down", _) => Self::Down(member()?),
            ("up", _) => Self::Up(member()?),
            ("crash", None) => Self::Crash,
            ("lose", Some(count)) => Self::LoseAcknowledgements(count),
            ("delay", Some(milliseconds)) => Self::Delay(Duration::from_millis(milliseconds)),
            ("half-open", _) => Self::HalfOpen(member()?),
            ("restart", None) => Self::Restart,
            ("stale", _) => Self::StalePrimary(member()?),
            _ => return Err(refused()),
        })
    }
}
