//! The values of flags: how they are read, and which are never shown.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::bench::payload::MIN_SIZE;

/// A text that is never shown.
#[derive(Clone)]
pub struct Hidden(String);

impl Hidden {
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hidden {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// A number above 0.
pub fn positive(text: &str) -> Result<f64, String> {
    match not_negative(text)? {
        0.0 => Err("must be above 0".to_owned()),
        number => Ok(number),
    }
}

/// A number from 0 on.
pub fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && (0.0..=1e7).contains(&number) => Ok(number),
        _ => Err("must be a number from 0 to 10000000".to_owned()),
    }
}

/// The bytes of a publication.
pub fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if (MIN_SIZE..=1_000_000).contains(&size) => Ok(size),
        _ => Err(format!("must be a number of bytes from {MIN_SIZE} to 1000000")),
    }
}

/// A time such as `100ms` or `1.5s`, in milliseconds.
pub fn milliseconds(text: &str) -> Result<f64, String> {
    let (number, factor) = match text.strip_suffix("ms") {
        Some(number) => (number, 1.0),
        None => (text.strip_suffix('s').unwrap_or_default(), 1_000.0),
    };
    match positive(number) {
        Ok(number) => Ok(number * factor),
        Err(_) => Err("must be a time such as 100ms or 1.5s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_numbers_are_read_or_refused() {
        assert_eq!(milliseconds("100ms"), Ok(100.0));
        assert_eq!(milliseconds("1.5s"), Ok(1_500.0));
        for text in ["", "100", "s", "-1s", "0ms", "xms"] {
            milliseconds(text).expect_err(text);
        }
        for text in ["nan", "inf", "-1", "x"] {
            not_negative(text).expect_err(text);
        }
        positive("0").unwrap_err();
        size(&(MIN_SIZE - 1).to_string()).unwrap_err();
        assert_eq!(size(&MIN_SIZE.to_string()), Ok(MIN_SIZE));
    }

    #[test]
    fn secrets_are_not_shown() {
        let hidden: Hidden = "key".parse().unwrap();
        assert_eq!(format!("{hidden:?}"), "***");
        assert_eq!(serde_json::to_string(&hidden).unwrap(), "\"***\"");
        assert_eq!(hidden.expose(), "key");
    }
}
