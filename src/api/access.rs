//! Who may call.

use std::borrow::Cow;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;

use crate::config::Secret;

/// What stands before the key in an `Authorization` header.
const SCHEME: &[u8] = b"apikey ";

/// The key callers must give.
#[derive(Clone, Debug)]
pub struct Access {
    key: Option<Secret>,
}

impl Access {
    /// Asks for `key`; with `None` for nothing. An empty key admits nobody.
    pub fn new(key: Option<Secret>) -> Self {
        Self { key }
    }

    /// Whether the request carries the key: in `X-API-Key`, in `Authorization` after `apikey`, or
    /// in the query as `api_key`; the first of these that is there counts.
    pub fn admits(&self, request: &Parts) -> bool {
        let Some(key) = &self.key else { return true };
        let given = given_key(request);
        // Takes equally long wherever the first difference is, lest the key be found letter by
        // letter. The length shows, which helps nobody.
        let equal = given
            .is_some_and(|given| verify_slices_are_equal(&given, key.expose().as_bytes()).is_ok());
        equal && !key.is_empty()
    }
}

fn given_key(request: &Parts) -> Option<Cow<'_, [u8]>> {
    if let Some(key) = request.headers.get("x-api-key") {
        return Some(key.as_bytes().into());
    }
    if let Some(authorization) = request.headers.get(AUTHORIZATION) {
        let authorization = authorization.as_bytes();
        let (scheme, key) = authorization.split_at_checked(SCHEME.len())?;
        return scheme.eq_ignore_ascii_case(SCHEME).then(|| key.trim_ascii().into());
    }
    let parameters = request.uri.query()?.split('&');
    let mut named = parameters.filter_map(|parameter| parameter.strip_prefix("api_key="));
    named.next().map(|value| unescaped(value).into())
}

/// The value of a query parameter. A `%` that begins no escape stands for itself.
fn unescaped(value: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then(|| after.split_at_checked(2)).flatten();
        let decoded = escaped.and_then(|(digits, after)| {
            let digits = std::str::from_utf8(digits).ok()?;
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            is_hex.then(|| u8::from_str_radix(digits, 16).ok())?.map(|byte| (byte, after))
        });
        let (byte, after) = decoded.unwrap_or((if first == b'+' { b' ' } else { first }, after));
        bytes.push(byte);
        rest = after;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use proptest::prelude::*;

    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::post(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("request").into_parts().0
    }

    #[test]
    fn the_key_may_come_in_three_places() {
        let access = Access::new(Some(Secret::new("s e+cret%")));
        for (uri, headers, admitted) in [
            ("/api/info", &[("X-API-Key", "s e+cret%")][..], true),
            ("/api/info", &[("Authorization", "apikey s e+cret%")], true),
            ("/api/info", &[("authorization", "ApiKey  s e+cret%")], true),
            ("/api/info?api_key=s+e%2Bcret%25", &[], true),
            ("/api/info?x=1&api_key=s%20e%2bcret%", &[], true),
            ("/api/info", &[], false),
            ("/api/info", &[("X-API-Key", "")], false),
            ("/api/info", &[("X-API-Key", "s e+cret")], false),
            ("/api/info", &[("X-API-Key", "S E+CRET%")], false),
            ("/api/info", &[("Authorization", "Bearer s e+cret%")], false),
            ("/api/info", &[("Authorization", "s e+cret%")], false),
            ("/api/info", &[("Authorization", "apikey")], false),
            ("/api/info?api_key=", &[], false),
            ("/api/info?api_keys=s+e%2Bcret%25", &[], false),
            ("/api/info?api_key=s+e%2Bcret%25", &[("X-API-Key", "wrong")], false),
        ] {
            assert_eq!(access.admits(&request(uri, headers)), admitted, "{uri} {headers:?}");
        }
    }

    #[test]
    fn without_a_key_all_or_nobody_may_call_as_was_said() {
        assert!(Access::new(None).admits(&request("/api/info", &[])));
        let empty = Access::new(Some(Secret::default()));
        assert!(!empty.admits(&request("/api/info?api_key=", &[("X-API-Key", "")])));
        assert!(!empty.admits(&request("/api/info", &[])));
    }

    #[test]
    fn the_key_is_not_shown() {
        assert!(!format!("{:?}", Access::new(Some(Secret::new("hunter2")))).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn any_key_survives_its_escaping(key in "[ -~]{1,20}") {
            let escaped: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(unescaped(&escaped), key.into_bytes());
        }

        #[test]
        fn no_query_breaks_the_reader(query in ".{0,30}") {
            unescaped(&query);
        }
    }
}
