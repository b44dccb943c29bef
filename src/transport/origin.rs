//! Which web pages may connect, and what their browsers are told about it.

use globset::{GlobBuilder, GlobMatcher};
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, HeaderMap,
    HeaderValue, ORIGIN, VARY,
};

/// Seconds a browser may keep the answer to a preflight; browsers cap it at two hours or less.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// The rule of `client.allowed_origins`.
#[derive(Clone, Debug)]
pub struct AllowedOrigins(Rule);

#[derive(Clone, Debug)]
enum Rule {
    /// Nothing configured: no browser page, only clients that send no `Origin`.
    WithoutOrigin,
    Any,
    Matching(Vec<GlobMatcher>),
}

/// A pattern of `client.allowed_origins` that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "client.allowed_origins: pattern {pattern:?} is not valid: {problem}; allowed are origins such \
     as \"https://example.com\" with `*`, `?`, `[abc]` and `{{a,b}}`, or `*` for all"
)]
pub struct OriginError {
    pattern: String,
    problem: String,
}

impl AllowedOrigins {
    /// Reads patterns. `*` stands for any characters, also dots and slashes; case does not count.
    ///
    /// # Errors
    /// The first pattern that is empty or not a valid glob.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, OriginError> {
        let matchers: Vec<_> =
            patterns.iter().map(|p| compile(p.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self(if patterns.iter().any(|p| p.as_ref() == "*") {
            Rule::Any
        } else if matchers.is_empty() {
            Rule::WithoutOrigin
        } else {
            Rule::Matching(matchers)
        }))
    }

    /// Whether a request with these headers may connect. A request without `Origin` does not come
    /// from a web page and always may; more than one `Origin`, or one that is not text, never may
    /// unless all are allowed.
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else { return true };
        match &self.0 {
            Rule::Any => true,
            Rule::WithoutOrigin => origin.is_empty() && origins.next().is_none(),
            Rule::Matching(matchers) => {
                let Ok(origin) = origin.to_str() else { return false };
                let origin = origin.to_ascii_lowercase();
                let matched = origin.is_empty() || matchers.iter().any(|m| m.is_match(&origin));
                matched && origins.next().is_none()
            }
        }
    }
}

/// Adds to a response what lets the page at an allowed origin read it. Call it only after
/// [`AllowedOrigins::allow`].
pub fn add_cors(request: &HeaderMap, response: &mut HeaderMap) {
    let Some(origin) = request.get(ORIGIN) else { return };
    response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    response.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    response.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(wanted) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        response.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
}

/// Adds to the answer of an `OPTIONS` request, a 204, what a browser asks before it may POST.
pub fn add_preflight(request: &HeaderMap, response: &mut HeaderMap) {
    add_cors(request, response);
    response.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, OPTIONS"));
    response.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
}

fn compile(pattern: &str) -> Result<GlobMatcher, OriginError> {
    let fail = |problem: String| OriginError { pattern: pattern.to_owned(), problem };
    if pattern.is_empty() {
        return Err(fail("it is empty".to_owned()));
    }
    let glob = GlobBuilder::new(&pattern.to_ascii_lowercase())
        .literal_separator(false)
        .build()
        .map_err(|error| fail(error.kind().to_string()))?;
    Ok(glob.compile_matcher())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(origins: &[&str]) -> HeaderMap {
        let value = |o: &&str| (ORIGIN, HeaderValue::from_bytes(o.as_bytes()).expect("value"));
        origins.iter().map(value).collect()
    }

    fn allowed(patterns: &[&str], origins: &[&str]) -> bool {
        AllowedOrigins::new(patterns).expect("patterns").allow(&headers(origins))
    }

    #[test]
    fn the_table_of_origins() {
        const EXACT: &[&str] = &["https://example.com"];
        const SUBDOMAINS: &[&str] = &["https://*.example.com"];
        let table: &[(&[&str], &[&str], bool)] = &[
            // Nothing configured: only requests without an origin.
            (&[], &[], true),
            (&[], &[""], true),
            (&[], &["https://example.com"], false),
            (&[], &["null"], false),
            // Everything.
            (&["*"], &[], true),
            (&["*"], &["https://example.com"], true),
            (&["*"], &["null"], true),
            (&["https://a.org", "*"], &["https://b.org"], true),
            // One origin, exactly.
            (EXACT, &[], true),
            (EXACT, &["https://example.com"], true),
            (EXACT, &["HTTPS://Example.COM"], true),
            (EXACT, &["http://example.com"], false),
            (EXACT, &["https://example.com:8443"], false),
            (EXACT, &["https://example.com.evil.org"], false),
            (EXACT, &["https://evil.org/https://example.com"], false),
            (EXACT, &["https://examplescom"], false),
            (EXACT, &["null"], false),
            (EXACT, &["https://example.com", "https://evil.org"], false),
            (EXACT, &["https://exämple.com"], false),
            // A pattern's star crosses dots.
            (SUBDOMAINS, &["https://a.example.com"], true),
            (SUBDOMAINS, &["https://a.b.example.com"], true),
            (SUBDOMAINS, &["https://example.com"], false),
            (SUBDOMAINS, &["https://a.example.com.evil.org"], false),
            (SUBDOMAINS, &["https://aexample.com"], false),
            (&["https://example.com:*"], &["https://example.com:8443"], true),
            (&["*://example.com"], &["http://example.com"], true),
            (&["https://**.com"], &["https://a.b.com"], true),
            // The other wildcards, and case in the pattern.
            (&["https://{a,b}.org"], &["https://b.org"], true),
            (&["https://{a,b}.org"], &["https://c.org"], false),
            (&["https://node-?.org"], &["https://node-7.org"], true),
            (&["https://node-?.org"], &["https://node-77.org"], false),
            (&["https://node-[0-4].org"], &["https://node-3.org"], true),
            (&["https://node-[0-4].org"], &["https://node-5.org"], false),
            (&["https://Example.com"], &["https://example.com"], true),
            (&["https://a.org", "https://b.org"], &["https://b.org"], true),
        ];
        for (patterns, origins, expected) in table {
            assert_eq!(allowed(patterns, origins), *expected, "{patterns:?} {origins:?}");
        }
    }

    #[test]
    fn a_bad_pattern_is_named_at_start() {
        for bad in ["https://[a.org", "https://{a,b", ""] {
            let error = AllowedOrigins::new(&["https://a.org", bad]).expect_err(bad).to_string();
            assert!(error.starts_with("client.allowed_origins: pattern "), "{error}");
            assert!(error.contains(&format!("{bad:?}")), "{error}");
            assert!(error.contains("allowed are"), "{error}");
        }
    }

    #[test]
    fn cors_headers_name_the_origin_and_echo_the_wanted_headers() {
        let mut request = headers(&["https://a.org"]);
        request.insert(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("x-one, x-two"));
        let mut response = HeaderMap::new();
        add_preflight(&request, &mut response);
        assert_eq!(response[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.org");
        assert_eq!(response[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(response[ACCESS_CONTROL_ALLOW_HEADERS], "x-one, x-two");
        assert_eq!(response[ACCESS_CONTROL_ALLOW_METHODS], "POST, OPTIONS");
        assert_eq!(response[VARY], "Origin");

        let mut plain = HeaderMap::new();
        add_cors(&headers(&[]), &mut plain);
        assert!(plain.is_empty());
    }

    proptest! {
        #[test]
        fn an_exact_origin_lets_no_other_pass(origin in "[ -~]{1,60}") {
            let same = origin.eq_ignore_ascii_case("https://example.com");
            prop_assert_eq!(allowed(&["https://example.com"], &[&origin]), same);
        }

        #[test]
        fn no_pattern_can_panic(pattern in "[a-z*?\\[\\]{},!\\\\:/.-]{0,30}", origin in "[ -~]{0,40}") {
            if let Ok(rule) = AllowedOrigins::new(&[&pattern]) {
                rule.allow(&headers(&[&origin]));
            }
        }
    }
}
