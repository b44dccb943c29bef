//! Units of settings: spans of time, sizes in bytes, secrets.

use std::fmt;
use std::time::Duration;

/// A number of bytes.
pub type ByteSize = usize;

/// A text that must not show up in logs: its `Debug` is `***`, and it has no `Display`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text itself. Not for logs.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it was not set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "unset" } else { "***" })
    }
}

/// The smallest part of a duration that counts.
const RESOLUTION: Duration = Duration::from_millis(1);

/// Nanoseconds in each unit of a duration, as Go spells them.
const TIME_UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads text such as `500ms`, `25s`, `1.5s` or `1h30m`; a plain `0` needs no unit.
///
/// # Errors
/// Says what would be allowed.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const ALLOWED: &str = "a duration such as \"500ms\", \"25s\" or \"1h30m\"";
    let text = text.trim();
    if text.starts_with('-') {
        return Err("a duration that is not negative".into());
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(ALLOWED.into());
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (part, tail) = parse_span(rest).ok_or(ALLOWED)?;
        nanos = nanos.checked_add(part).ok_or(ALLOWED)?;
        rest = tail;
    }
    // Go counts durations in a signed 64-bit number of nanoseconds, about 292 years.
    let nanos = i64::try_from(nanos).map_err(|_| "a duration of at most 292 years")?;
    let duration = Duration::from_nanos(nanos.unsigned_abs());
    if !duration.subsec_nanos().is_multiple_of(RESOLUTION.subsec_nanos()) {
        return Err("a duration in whole milliseconds".into());
    }
    Ok(duration)
}

/// One number with its unit in nanoseconds, and what follows.
fn parse_span(text: &str) -> Option<(u128, &str)> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, tail) = text.split_at(number_end);
    let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
    let (unit, tail) = tail.split_at(unit_end);
    let (_, scale) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 18 {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let parts = digits(fraction)?.checked_mul(*scale)? / 10_u128.pow(fraction.len() as u32);
    Some((digits(whole)?.checked_mul(*scale)?.checked_add(parts)?, tail))
}

/// The duration as [`parse_duration`] reads it, in the largest units that fit.
pub fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    let parts = [
        (millis / 3_600_000, "h"),
        (millis / 60_000 % 60, "m"),
        (millis / 1_000 % 60, "s"),
        (millis % 1_000, "ms"),
    ];
    let text: String = parts
        .iter()
        .filter(|(amount, _)| *amount > 0)
        .map(|(amount, unit)| format!("{amount}{unit}"))
        .collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads `65536`, `64KiB`, `1MiB`, `1GiB`, or the decimal `64KB`, `1MB`, `1GB`; a `B` alone is a
/// byte.
pub fn parse_size(text: &str) -> Option<ByteSize> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale: ByteSize = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<ByteSize>().ok()?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let millis = |text| parse_duration(text).map(|duration| duration.as_millis());
        for (text, expected) in [
            ("0", 0),
            ("0s", 0),
            ("500ms", 500),
            ("25s", 25_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1_500),
            (".5s", 500),
            ("+2m", 120_000),
            ("720h", 2_592_000_000),
            ("1s1s", 2_000),
            ("3000000ns", 3),
            ("2000us", 2),
        ] {
            assert_eq!(millis(text), Ok(expected), "{text}");
        }
        for text in
            ["", "25", "s", "1x", "-1s", "1.2.3s", "100us", "1500us", "1 s", "9999999h", "."]
        {
            assert!(millis(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn sizes_know_binary_and_decimal_units() {
        for (text, expected) in [
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("1 MiB", 1 << 20),
            ("2MB", 2_000_000),
            ("7B", 7),
        ] {
            assert_eq!(parse_size(text), Some(expected), "{text}");
        }
        for text in ["", "KiB", "-1", "1.5KiB", "1kib", "99999999999999999999"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "***");
    }

    proptest! {
        #[test]
        fn a_duration_survives_its_text(millis in 0_u64..10_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&duration_text(duration)), Ok(duration));
        }

        #[test]
        fn no_text_breaks_the_parsers(text in "[0-9a-zµ. +-]{0,40}|.{0,40}") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }
    }
}
