//! The address of a key set, which may depend on who issued the token.
//!
//! `https://example.com/{{tenant}}/keys` takes `tenant` from a named group of `issuer_regex` or
//! `audience_regex`, matched against claims **before** the signature is checked, so by anybody's
//! wish. Hence a group used there must be a list of literals, and whatever it matched may hold only
//! letters, digits and `-._~`.

use std::collections::BTreeMap;

use hyper::Uri;
use regex_syntax::ast::{Ast, GroupKind, parse::Parser};

/// What named groups matched, by name.
pub(super) type Groups = BTreeMap<String, String>;

/// Longest value put into an address, in bytes; a host name's label has 63 at most.
const MAX_VALUE_LENGTH: usize = 255;

/// An address with places to fill.
#[derive(Debug)]
pub(super) struct EndpointTemplate {
    parts: Vec<Part>,
    https: bool,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Group(String),
}

impl EndpointTemplate {
    /// # Errors
    /// Says why `template` cannot be the address of a key set.
    pub fn parse(template: &str) -> Result<Self, String> {
        let parts = split(template)?;
        let mut parsed = Self { parts, https: false };
        let sample = parsed.fill(|_| Some("x")).ok_or("cannot be filled")?;
        let uri = checked(&sample)?;
        parsed.https = uri.scheme_str() == Some("https");
        Ok(parsed)
    }

    /// Whether the address is an `https` one; the scheme is never a place to fill.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The names of the groups that fill the places.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Group(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The address for a token whose claims matched `groups`.
    ///
    /// # Errors
    /// If a group did not take part in the match, or matched what must not be in an address.
    pub fn resolve(&self, groups: &Groups) -> Result<String, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let value = |name: &str| {
            let value = groups.get(name)?.as_str();
            let fits = !value.is_empty() && value.len() <= MAX_VALUE_LENGTH;
            (fits && value.bytes().all(allowed)).then_some(value)
        };
        let url = self.fill(value).ok_or("the claims do not fill the address of the key set")?;
        checked(&url)?;
        Ok(url)
    }

    fn fill<'a>(&'a self, value: impl Fn(&'a str) -> Option<&'a str>) -> Option<String> {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                Part::Group(name) => value(name),
            })
            .collect()
    }
}

/// Whether the group `name` of `pattern` can match nothing but literals: `(?P<name>one|two)`.
///
/// # Errors
/// Says what the group must look like; also if there is no such group.
pub(super) fn check_literal_group(pattern: &str, name: &str) -> Result<(), String> {
    let ast = Parser::new().parse(pattern).map_err(|error| error.to_string())?;
    match find_group(&ast, name) {
        Some(inner) if is_literal_list(inner) => Ok(()),
        Some(_) => Err(format!(
            "the group {name} is used in jwks_public_endpoint and so must be a list of literals \
             like (?P<{name}>one|two)"
        )),
        None => Err(format!("has no group {name}")),
    }
}

/// An address as it may be logged: what follows `?` could be a password.
pub(super) fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

fn split(template: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((text, tail)) = rest.split_once("{{") {
        let (name, tail) = tail.split_once("}}").ok_or("{{ without }}")?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_name) {
            return Err("{{name}} must hold a name of letters, digits and _".into());
        }
        parts.push(Part::Text(text.into()));
        parts.push(Part::Group(name.into()));
        rest = tail;
    }
    parts.push(Part::Text(rest.into()));
    Ok(parts)
}

fn checked(url: &str) -> Result<Uri, String> {
    let uri: Uri = url.parse().map_err(|_| "not a URL")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err("must be a URL that begins with http:// or https://".into());
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("must not hold a user name or password".into());
    }
    let path = uri.path().to_ascii_lowercase().replace("%2e", ".");
    if path.split(['/', '\\']).any(|segment| matches!(segment, "." | "..")) {
        return Err("must not hold . or .. in its path".into());
    }
    Ok(uri)
}

fn find_group<'a>(ast: &'a Ast, name: &str) -> Option<&'a Ast> {
    match ast {
        Ast::Group(group) => match &group.kind {
            GroupKind::CaptureName { name: found, .. } if found.name == name => Some(&group.ast),
            _ => find_group(&group.ast, name),
        },
        Ast::Repetition(repetition) => find_group(&repetition.ast, name),
        Ast::Concat(concat) => concat.asts.iter().find_map(|ast| find_group(ast, name)),
        Ast::Alternation(either) => either.asts.iter().find_map(|ast| find_group(ast, name)),
        _ => None,
    }
}

fn is_literal_list(ast: &Ast) -> bool {
    match ast {
        Ast::Literal(_) => true,
        Ast::Concat(concat) => concat.asts.iter().all(is_literal_list),
        Ast::Alternation(either) => either.asts.iter().all(is_literal_list),
        Ast::Group(group) => is_literal_list(&group.ast),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TENANT: &str = "https://keys.example.com/{{tenant}}/set";

    fn resolve(template: &str, value: &str) -> Result<String, String> {
        let groups = Groups::from([("tenant".into(), value.into())]);
        EndpointTemplate::parse(template).unwrap().resolve(&groups)
    }

    #[test]
    fn a_matched_group_fills_its_place() {
        assert_eq!(resolve(TENANT, "acme").unwrap(), "https://keys.example.com/acme/set");
    }

    #[test]
    fn a_value_cannot_leave_its_place_in_the_address() {
        let attempts =
            ["", ".", "..", "a/b", "a?b", "a#b", "%2e%2e", "a@b", "a:b", "a\\b", "a b", "é", "a\n"];
        for value in attempts {
            assert!(resolve(TENANT, value).is_err(), "{value:?}");
        }
        assert!(resolve("https://keys.example.com/.{{tenant}}/set", ".").is_err());
        assert!(resolve(TENANT, &"a".repeat(MAX_VALUE_LENGTH + 1)).is_err());
    }

    #[test]
    fn a_group_that_matched_nothing_resolves_to_nothing() {
        let template = EndpointTemplate::parse(TENANT).unwrap();
        assert!(template.resolve(&Groups::new()).is_err());
    }

    #[test]
    fn only_web_addresses_are_endpoints() {
        for bad in [
            "",
            "/keys",
            "file:///etc/passwd",
            "ftp://example.com/keys",
            "{{scheme}}://example.com",
            "https://user:pass@example.com/keys",
            "https://example.com/a/../keys",
            "https://example.com/%2E./keys",
            "https://example.com/{{tenant",
            "https://example.com/{{}}",
            "https://example.com/{{a b}}",
        ] {
            assert!(EndpointTemplate::parse(bad).is_err(), "{bad}");
        }
        assert!(EndpointTemplate::parse("https://example.com/keys?a=b").unwrap().is_https());
        assert!(!EndpointTemplate::parse("http://127.0.0.1:80/keys").unwrap().is_https());
    }

    #[test]
    fn only_lists_of_literals_may_fill_an_address() {
        for safe in
            ["^https://(?P<t>acme|globex)$", "(?P<t>acme)", "(?<t>a(?:b|c)d)", r"^(x|(?P<t>a\.b))"]
        {
            assert_eq!(check_literal_group(safe, "t"), Ok(()), "{safe}");
        }
        for unsafe_ in [
            "(?P<t>.*)",
            "(?P<t>[a-z]+)",
            "(?P<t>[ab])",
            "(?P<t>a|b+)",
            "(?P<t>a?)",
            r"(?P<t>\w)",
            "(?P<t>a||b)",
            "(?P<t>)",
            "(?P<t>a|(?P<u>.))",
            "(?P<other>a)",
        ] {
            assert!(check_literal_group(unsafe_, "t").is_err(), "{unsafe_}");
        }
    }

    proptest! {
        #[test]
        fn no_value_leads_to_another_host(value in ".{0,40}") {
            if let Ok(url) = resolve(TENANT, &value) {
                let uri: Uri = url.parse().unwrap();
                prop_assert_eq!(uri.host(), Some("keys.example.com"));
                prop_assert_eq!(uri.path().split('/').count(), 3);
                prop_assert_eq!(uri.query(), None);
            }
        }

        #[test]
        fn no_template_panics(template in ".{0,60}", pattern in ".{0,40}") {
            let _ = EndpointTemplate::parse(&template);
            let _ = check_literal_group(&pattern, "t");
        }
    }
}
