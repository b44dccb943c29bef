//! Agreeing on permessage-deflate in the opening handshake (RFC 7692, 5 and 7.1).

/// Binary logarithm of the largest window: how far back a compressor refers, in bytes.
pub const MAX_WINDOW_BITS: u8 = 15;
/// That of the smallest one we compress with. The RFC has 8 as well, zlib has not.
pub const MIN_WINDOW_BITS: u8 = 9;

/// Binary logarithms of the windows that a peer may speak of.
const WINDOW_BITS: std::ops::RangeInclusive<u8> = 8..=15;

/// What server and client agreed on: no context takeover in either direction, and how far back the
/// server refers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// What the client asked for.
    server_max_window_bits: Option<u8>,
}

impl Agreed {
    /// The `Sec-WebSocket-Extensions` of the server's answer; visible ASCII.
    pub fn answer(self) -> String {
        let mut answer =
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
        if let Some(bits) = self.server_max_window_bits {
            answer += &format!("; server_max_window_bits={bits}");
        }
        answer
    }

    /// What to give to [`compress`](super::compress); 9 to 15.
    pub fn window_bits(self) -> u8 {
        self.server_max_window_bits.unwrap_or(MAX_WINDOW_BITS)
    }
}

/// Takes the first acceptable offer among the values of the `Sec-WebSocket-Extensions` headers of a
/// request. An offer with a parameter that is unknown, repeated or without sense is declined, as the
/// RFC asks; a header that cannot be read has no offers.
pub fn negotiate<'a>(mut offers: impl Iterator<Item = &'a str>) -> Option<Agreed> {
    offers.find_map(|header| {
        let extensions = Parser { rest: header }.extensions()?;
        extensions.iter().find_map(accept)
    })
}

/// Each with its parameters.
struct Extension<'a> {
    name: &'a str,
    parameters: Vec<Parameter<'a>>,
}

struct Parameter<'a> {
    name: &'a str,
    value: Option<String>,
}

fn accept(offer: &Extension<'_>) -> Option<Agreed> {
    if !offer.name.eq_ignore_ascii_case("permessage-deflate") {
        return None;
    }
    let mut server_max_window_bits = None;
    for (at, Parameter { name, value }) in offer.parameters.iter().enumerate() {
        let earlier = offer.parameters.iter().take(at);
        if earlier.into_iter().any(|earlier| earlier.name.eq_ignore_ascii_case(name)) {
            return None;
        }
        match (name.to_ascii_lowercase().as_str(), value) {
            ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
            ("server_max_window_bits", Some(value)) => {
                let bits = window_bits(value).filter(|bits| *bits >= MIN_WINDOW_BITS)?;
                server_max_window_bits = Some(bits);
            }
            // The client's window is its own affair: ours takes what any window gives.
            ("client_max_window_bits", None) => {}
            ("client_max_window_bits", Some(value)) => {
                window_bits(value)?;
            }
            _ => return None,
        }
    }
    Some(Agreed { server_max_window_bits })
}

/// A decimal without leading zeros, as the RFC has it.
fn window_bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok().filter(|bits| WINDOW_BITS.contains(bits))?;
    value.starts_with(|first: char| first.is_ascii_digit() && first != '0').then_some(bits)
}

/// Reads `extension-list` (RFC 6455, 9.1).
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// `None` if it is malformed.
    fn extensions(mut self) -> Option<Vec<Extension<'a>>> {
        let mut extensions = Vec::new();
        loop {
            // A list may have empty elements.
            while self.skip(',') {}
            if self.rest.is_empty() {
                return Some(extensions);
            }
            extensions.push(self.extension()?);
            if !self.rest.is_empty() && !self.skip(',') {
                return None;
            }
        }
    }

    fn extension(&mut self) -> Option<Extension<'a>> {
        let name = self.token()?;
        let mut parameters = Vec::new();
        while self.skip(';') {
            let name = self.token()?;
            let value = if self.skip('=') { Some(self.value()?) } else { None };
            parameters.push(Parameter { name, value });
        }
        Some(Extension { name, parameters })
    }

    fn value(&mut self) -> Option<String> {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            return self.token().map(str::to_owned);
        };
        let mut value = String::new();
        let mut characters = quoted.chars();
        loop {
            match characters.next()? {
                '"' => break,
                '\\' => value.push(characters.next()?),
                character => value.push(character),
            }
        }
        self.rest = characters.as_str();
        self.skip_spaces();
        // Without its quotes it has to be a token too.
        (!value.is_empty() && value.chars().all(is_token)).then_some(value)
    }

    fn token(&mut self) -> Option<&'a str> {
        let end = self.rest.find(|character| !is_token(character)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        self.skip_spaces();
        (!token.is_empty()).then_some(token)
    }

    fn skip(&mut self, separator: char) -> bool {
        self.skip_spaces();
        let Some(rest) = self.rest.strip_prefix(separator) else { return false };
        self.rest = rest;
        self.skip_spaces();
        true
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }
}

/// What a token is made of (RFC 9110, 5.6.2).
fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    fn answer(headers: &[&str]) -> Option<String> {
        negotiate(headers.iter().copied()).map(Agreed::answer)
    }

    #[test]
    fn what_browsers_and_libraries_offer_is_taken() {
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate;client_max_window_bits=15",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "Permessage-Deflate ; Client_Max_Window_Bits = \"10\" ",
            "permessage-deflate; client_max_window_bits=8",
            "x-webkit-deflate-frame, permessage-deflate",
            ", ,permessage-deflate,",
        ] {
            assert_eq!(answer(&[offer]).as_deref(), Some(PLAIN), "{offer}");
        }
    }

    #[test]
    fn a_window_asked_for_is_kept_and_said() {
        for (offer, bits) in [
            ("permessage-deflate; server_max_window_bits=9", 9),
            ("permessage-deflate; server_max_window_bits=\"12\"", 12),
            ("permessage-deflate; server_max_window_bits=\"1\\5\"; client_max_window_bits", 15),
        ] {
            let agreed = negotiate([offer].into_iter()).expect("is acceptable");
            assert_eq!(agreed.window_bits(), bits);
            assert_eq!(agreed.answer(), format!("{PLAIN}; server_max_window_bits={bits}"));
        }
        assert_eq!(
            negotiate(["permessage-deflate"].into_iter()).map(Agreed::window_bits),
            Some(15)
        );
    }

    #[test]
    fn an_offer_that_cannot_be_kept_is_declined() {
        for parameters in [
            "server_max_window_bits",
            "server_max_window_bits=8",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=09",
            "server_max_window_bits=+9",
            "server_max_window_bits=\"\"",
            "server_max_window_bits=300",
            "client_max_window_bits=7",
            "client_max_window_bits=x",
            "server_no_context_takeover=1",
            "client_no_context_takeover=true",
            "client_max_window_bits; client_max_window_bits=10",
            "server_no_context_takeover; Server_No_Context_Takeover",
            "quality=1",
        ] {
            assert_eq!(
                answer(&[&format!("permessage-deflate; {parameters}")]),
                None,
                "{parameters}"
            );
        }
        assert_eq!(answer(&["permessage-bzip2", "deflate-frame"]), None);
        assert_eq!(answer(&[]), None);
    }

    #[test]
    fn the_first_acceptable_offer_is_taken() {
        let falling_back = "permessage-deflate; server_max_window_bits=8, permessage-deflate; \
                            server_max_window_bits=10, permessage-deflate";
        let ten = format!("{PLAIN}; server_max_window_bits=10");
        assert_eq!(answer(&[falling_back]), Some(ten.clone()));
        let lines =
            ["a; b=c", "permessage-deflate; x", "permessage-deflate; server_max_window_bits=10"];
        assert_eq!(answer(&lines), Some(ten));
    }

    #[test]
    fn a_malformed_header_has_no_offers() {
        for header in [
            "permessage-deflate;",
            "permessage-deflate; =1",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=\"10",
            "permessage-deflate; client_max_window_bits=\"1 0\"",
            "permessage-deflate client_max_window_bits",
            "permessage-deflate, a b",
            "permessage-deflate; \u{e4}",
            ";",
        ] {
            assert_eq!(answer(&[header]), None, "{header}");
            assert_eq!(answer(&[header, "permessage-deflate"]).as_deref(), Some(PLAIN));
        }
    }

    proptest! {
        #[test]
        fn any_header_has_an_answer_that_keeps_to_the_rfc(
            header in "(permessage-deflate|[a-z=;, \"\\\\]{0,3}|(server|client)_max_window_bits|=|;|,|9|1[0-5]){0,12}",
        ) {
            if let Some(agreed) = negotiate([header.as_str()].into_iter()) {
                prop_assert!((MIN_WINDOW_BITS..=MAX_WINDOW_BITS).contains(&agreed.window_bits()));
                prop_assert!(agreed.answer().starts_with(PLAIN));
            }
        }
    }
}
