//! Decimal numbers of any size, compared without arithmetic.

use std::cmp::Ordering;

/// A decimal number as it stands in a text, compared by its digits. Nothing is expanded: an
/// exponent of a billion costs as much as one of ten.
#[derive(Clone, Copy, Debug)]
pub struct Decimal<'a> {
    negative: bool,
    /// Digits before and after the point, without the zeros that lead the number.
    whole: &'a str,
    fraction: &'a str,
    /// The power of ten of the first digit. Means nothing for zero, which has no digits.
    magnitude: i64,
}

impl<'a> Decimal<'a> {
    /// Reads `[+-]digits[.digits][e[+-]digits]`, where one side of the point may be empty and the
    /// exponent is a 32-bit number. `None` for anything else.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            // The standard parser takes a leading plus as well.
            Some((mantissa, exponent)) => (mantissa, i64::from(exponent.parse::<i32>().ok()?)),
            None => (text, 0),
        };
        let unsigned = mantissa.strip_prefix(['+', '-']).unwrap_or(mantissa);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let significant = match whole {
            "" => fraction.trim_start_matches('0'),
            _ => fraction,
        };
        // Lengths of texts in memory stay far from the limits of i64.
        let skipped = (fraction.len() - significant.len()) as i64;
        Some(Self {
            negative: mantissa.starts_with('-'),
            whole,
            fraction: significant,
            magnitude: whole.len() as i64 - skipped + exponent,
        })
    }

    /// -1, 0 or 1.
    fn sign(&self) -> i8 {
        match self.digits().any(|digit| digit != b'0') {
            false => 0,
            true if self.negative => -1,
            true => 1,
        }
    }

    fn digits(self) -> impl Iterator<Item = u8> {
        self.whole.bytes().chain(self.fraction.bytes())
    }

    /// Compares without the sign.
    fn compare_size(&self, other: &Self) -> Ordering {
        let longer = self.digits().count().max(other.digits().count());
        let filled = |number: Self| number.digits().chain(std::iter::repeat(b'0')).take(longer);
        self.magnitude.cmp(&other.magnitude).then_with(|| filled(*self).cmp(filled(*other)))
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = self.sign();
        sign.cmp(&other.sign()).then_with(|| match sign {
            0 => Ordering::Equal,
            1.. => self.compare_size(other),
            _ => other.compare_size(self),
        })
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal(text: &str) -> Decimal<'_> {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text} is a decimal"))
    }

    #[test]
    fn only_decimals_are_read() {
        for text in
            ["0", "-0", "+7", "007", "1.", ".5", "-.5", "1e5", "1E+5", "1.5e-5", "9e2147483647"]
        {
            assert!(Decimal::parse(text).is_some(), "{text}");
        }
        for text in [
            "",
            ".",
            "-",
            "+",
            "e",
            "e5",
            "1e",
            "1e+",
            ".e1",
            "1.2.3",
            "1e1.5",
            "1e1e1",
            "--1",
            "+-1",
            "1.-5",
            " 1",
            "1 ",
            "1_000",
            "0x10",
            "NaN",
            "inf",
            "abc",
            "\u{661}",
            "1e2147483648",
            "1e99999999999999999999",
        ] {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn numbers_compare_by_value() {
        let rising = [
            "-1e1000000000",
            "-1000",
            "-20",
            "-19.99",
            "-1",
            "-0.1",
            "-1e-1000000000",
            "0",
            "1e-1000000000",
            "0.0001",
            "0.001",
            "0.1",
            "0.10000000000000000000000001",
            "0.9",
            "1",
            "1.5",
            "9",
            "10",
            "18446744073709551616",
            "18446744073709551617",
            "1e1000000000",
            "1.1e1000000000",
            "2e1000000000",
            "1e1000000001",
        ];
        for (at, number) in rising.iter().enumerate() {
            for (other_at, other) in rising.iter().enumerate() {
                assert_eq!(
                    decimal(number).cmp(&decimal(other)),
                    at.cmp(&other_at),
                    "{number} {other}"
                );
            }
        }
    }

    #[test]
    fn the_same_value_has_many_forms() {
        for forms in [
            &["0", "-0", "+0", "0.000", "000", ".0", "0e7", "-0e-2000000000"][..],
            &["1", "+1", "01", "1.", "1.000", "10e-1", "0.1e1", "0.001e3", "1e0", "1000e-3"],
            &["-1500", "-1.5e3", "-0.15E+4", "-1500.0", "-015000e-1"],
        ] {
            for (one, other) in forms.iter().flat_map(|one| forms.iter().map(move |it| (one, it))) {
                assert_eq!(decimal(one), decimal(other), "{one} {other}");
            }
        }
    }

    proptest! {
        #[test]
        fn comparison_agrees_with_integers(a: i128, b: i128, scale in 0u32..40) {
            let text = |number: i128| format!("{number}e-{scale}");
            prop_assert_eq!(decimal(&text(a)).cmp(&decimal(&text(b))), a.cmp(&b));
        }

        #[test]
        fn comparison_agrees_with_scaled_integers(
            a in -99_999i64..99_999,
            b in -99_999i64..99_999,
            scales in (0u32..5, 0u32..5),
        ) {
            let text = |number: i64, scale: u32| format!("{}e{}", number, -i64::from(scale));
            let value = |number: i64, scale: u32| number * 10i64.pow(5 - scale);
            prop_assert_eq!(
                decimal(&text(a, scales.0)).cmp(&decimal(&text(b, scales.1))),
                value(a, scales.0).cmp(&value(b, scales.1))
            );
        }

        #[test]
        fn any_text_may_come_as_a_number(text: String, other in "[-+.e0-9]{0,12}") {
            if let (Some(a), Some(b)) = (Decimal::parse(&text), Decimal::parse(&other)) {
                prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            }
        }
    }
}
