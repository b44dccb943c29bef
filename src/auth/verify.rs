//! Verification: from a token to its claims.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{AlgorithmFamily, DecodingKey};
use regex::Regex;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::claims::{ConnectClaims, SubscribeClaims, Validity};
use super::endpoint::{EndpointTemplate, Groups, check_literal_group};
use super::jwks::KeySets;
use super::keys::{self, Algorithm};
use super::{SettingsError, TokenSettings};

/// Longest token looked at, in bytes: what the default `websocket.message_size_limit` lets through.
pub const MAX_TOKEN_LENGTH: usize = 65_536;

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was good, or will be: `exp` is over or `nbf` has not come.
    #[error("token expired or not valid yet")]
    Expired,
    /// It never will be. The reason holds nothing of the token and can be logged.
    #[error("invalid token: {0}")]
    Invalid(String),
}

/// Verifies tokens against one set of settings.
#[derive(Debug)]
pub struct TokenVerifier {
    keys: Keys,
    audience: Rule,
    issuer: Rule,
    user_id_claim: String,
}

#[derive(Debug)]
enum Keys {
    /// Signatures are not looked at.
    Unchecked,
    Fixed(FixedKeys),
    Published {
        endpoint: EndpointTemplate,
        sets: KeySets,
    },
}

#[derive(Debug)]
struct FixedKeys {
    hmac: Option<DecodingKey>,
    hmac_previous: Option<DecodingKey>,
    hmac_previous_valid_until: i64,
    rsa: Option<DecodingKey>,
    ecdsa: Option<DecodingKey>,
}

/// What the audience or the issuer must be.
#[derive(Debug)]
enum Rule {
    Any,
    Exactly(String),
    Matching(Regex),
}

impl TokenVerifier {
    /// Reads keys and patterns.
    ///
    /// # Errors
    /// Names the setting that cannot be used and why.
    pub fn new(settings: TokenSettings) -> Result<Self, SettingsError> {
        let audience = Rule::new(
            ("audience", &settings.audience),
            ("audience_regex", &settings.audience_regex),
        )?;
        let issuer =
            Rule::new(("issuer", &settings.issuer), ("issuer_regex", &settings.issuer_regex))?;
        let keys = Keys::new(&settings, &issuer, &audience)?;
        Ok(Self { keys, audience, issuer, user_id_claim: settings.user_id_claim })
    }

    /// The claims of a connection token at `now`, in unix seconds.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] also if a key set cannot be fetched.
    pub async fn verify_connect(&self, token: &str, now: i64) -> Result<ConnectClaims, TokenError> {
        let (payload, validity) = self.authenticate(token, now).await?;
        let claims =
            ConnectClaims::parse(&payload, &self.user_id_claim).map_err(TokenError::Invalid)?;
        check_time(&validity, now)?;
        Ok(claims)
    }

    /// The claims of a subscription token at `now`, in unix seconds. Whether its user, channel and
    /// client are those of the request is for the caller to compare.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] also if a key set cannot be fetched.
    pub async fn verify_subscribe(
        &self,
        token: &str,
        now: i64,
    ) -> Result<SubscribeClaims, TokenError> {
        let (payload, validity) = self.authenticate(token, now).await?;
        let claims =
            SubscribeClaims::parse(&payload, &self.user_id_claim).map_err(TokenError::Invalid)?;
        check_time(&validity, now)?;
        Ok(claims)
    }

    /// All but time and the claims proper: form, signature, audience, issuer.
    async fn authenticate(&self, token: &str, now: i64) -> Result<(Vec<u8>, Validity), TokenError> {
        let parts = Parts::split(token)?;
        let payload = parts.payload()?;
        let validity = Validity::parse(&payload).map_err(TokenError::Invalid)?;
        let groups = self.groups(&validity)?;
        self.keys.check_signature(&parts, &groups, now).await?;
        self.issuer.check("issuer", std::slice::from_ref(&validity.iss))?;
        self.audience.check("audience", validity.aud.as_slice())?;
        Ok((payload, validity))
    }

    /// What the patterns' named groups match in claims nobody has vouched for yet.
    fn groups(&self, validity: &Validity) -> Result<Groups, TokenError> {
        let mut groups = self.issuer.groups("issuer", std::slice::from_ref(&validity.iss))?;
        groups.extend(self.audience.groups("audience", validity.aud.as_slice())?);
        Ok(groups)
    }
}

/// The payload of a token that has the form of one, to be shown to a human: nothing is verified.
///
/// # Errors
/// If the token has not three parts, or its payload is not JSON.
pub fn unverified_payload(token: &str) -> Result<String, TokenError> {
    let payload = Parts::split(token)?.payload()?;
    serde_json::from_slice::<&RawValue>(&payload)
        .map(|value| value.get().to_owned())
        .map_err(|_| invalid("the payload is not JSON"))
}

impl Keys {
    fn new(
        settings: &TokenSettings,
        issuer: &Rule,
        audience: &Rule,
    ) -> Result<Self, SettingsError> {
        let keys = if settings.jwks_public_endpoint.is_empty() {
            Self::Fixed(FixedKeys::new(settings)?)
        } else {
            let error = |reason| SettingsError::new(ENDPOINT, reason);
            let endpoint =
                EndpointTemplate::parse(&settings.jwks_public_endpoint).map_err(error)?;
            check_groups(&endpoint, settings, issuer, audience)?;
            let sets = KeySets::new(endpoint.is_https()).map_err(error)?;
            Self::Published { endpoint, sets }
        };
        // The keys are read even if they will not be used, so that a bad one is found.
        Ok(if settings.insecure_skip_token_signature_verify { Self::Unchecked } else { keys })
    }

    async fn check_signature(
        &self,
        parts: &Parts<'_>,
        groups: &Groups,
        now: i64,
    ) -> Result<(), TokenError> {
        if matches!(self, Self::Unchecked) {
            return Ok(());
        }
        let header = parts.header()?;
        let algorithm = Algorithm::from_name(&header.alg)
            .ok_or_else(|| invalid("its algorithm is not one of HS, RS, ES or EdDSA"))?;
        let matches = match self {
            Self::Unchecked => true,
            Self::Fixed(keys) => keys.verify(algorithm, parts, now)?,
            Self::Published { endpoint, sets } => {
                if algorithm.family() == AlgorithmFamily::Hmac {
                    return Err(invalid("a key set holds no secrets, so HMAC cannot be checked"));
                }
                let kid = header.kid.filter(|kid| !kid.is_empty());
                let kid = kid.ok_or_else(|| invalid("its header has no kid"))?;
                let url = endpoint.resolve(groups).map_err(TokenError::Invalid)?;
                let key = sets.key(&url, &kid, now).await.map_err(invalid)?;
                key.verify(algorithm, parts.message, parts.signature)
            }
        };
        if matches { Ok(()) } else { Err(invalid("its signature does not match")) }
    }
}

/// Every place of the address must be filled by one group, and by a safe one.
fn check_groups(
    endpoint: &EndpointTemplate,
    settings: &TokenSettings,
    issuer: &Rule,
    audience: &Rule,
) -> Result<(), SettingsError> {
    for name in endpoint.groups() {
        let (key, pattern) = match (issuer.has_group(name), audience.has_group(name)) {
            (true, false) => ("issuer_regex", &settings.issuer_regex),
            (false, true) => ("audience_regex", &settings.audience_regex),
            (true, true) => {
                let reason = format!("{{{{{name}}}}} is in both issuer_regex and audience_regex");
                return Err(SettingsError::new(ENDPOINT, reason));
            }
            (false, false) => {
                let reason = format!(
                    "{{{{{name}}}}} is not the name of a group of issuer_regex or audience_regex"
                );
                return Err(SettingsError::new(ENDPOINT, reason));
            }
        };
        if !settings.insecure_skip_jwks_endpoint_safety_check {
            check_literal_group(pattern, name).map_err(|r| SettingsError::new(key, r))?;
        }
    }
    Ok(())
}

const ENDPOINT: &str = "jwks_public_endpoint";

impl FixedKeys {
    fn new(settings: &TokenSettings) -> Result<Self, SettingsError> {
        let secret =
            |value: &str| (!value.is_empty()).then(|| DecodingKey::from_secret(value.as_bytes()));
        let read = |key, pem: &str, parse: fn(&str) -> Result<DecodingKey, &'static str>| {
            if pem.trim().is_empty() {
                return Ok(None);
            }
            parse(pem).map(Some).map_err(|reason| SettingsError::new(key, reason))
        };
        Ok(Self {
            hmac: secret(&settings.hmac_secret_key),
            hmac_previous: secret(&settings.hmac_previous_secret_key),
            hmac_previous_valid_until: settings.hmac_previous_secret_key_valid_until,
            rsa: read("rsa_public_key", &settings.rsa_public_key, keys::rsa_from_pem)?,
            ecdsa: read("ecdsa_public_key", &settings.ecdsa_public_key, keys::ecdsa_from_pem)?,
        })
    }

    fn verify(
        &self,
        algorithm: Algorithm,
        parts: &Parts<'_>,
        now: i64,
    ) -> Result<bool, TokenError> {
        let key = match algorithm.family() {
            AlgorithmFamily::Hmac => &self.hmac,
            AlgorithmFamily::Rsa => &self.rsa,
            AlgorithmFamily::Ec => &self.ecdsa,
            AlgorithmFamily::Ed => return Err(invalid("EdDSA needs jwks_public_endpoint")),
        };
        let Some(key) = key else {
            return Err(invalid("no key is configured for its algorithm"));
        };
        let matches = |key| algorithm.verify(key, parts.message, parts.signature);
        if matches(key) {
            return Ok(true);
        }
        let previous = self.hmac_previous.as_ref();
        let until = self.hmac_previous_valid_until;
        let honoured = algorithm.family() == AlgorithmFamily::Hmac && (until <= 0 || now <= until);
        Ok(honoured && previous.is_some_and(matches))
    }
}

impl Rule {
    fn new(
        (key, value): (&'static str, &str),
        (regex_key, pattern): (&'static str, &str),
    ) -> Result<Self, SettingsError> {
        match (value.is_empty(), pattern.is_empty()) {
            (true, true) => Ok(Self::Any),
            (false, true) => Ok(Self::Exactly(value.into())),
            (true, false) => Regex::new(pattern)
                .map(Self::Matching)
                .map_err(|error| SettingsError::new(regex_key, error.to_string())),
            (false, false) => {
                Err(SettingsError::new(regex_key, format!("cannot be set together with {key}")))
            }
        }
    }

    fn has_group(&self, name: &str) -> bool {
        match self {
            Self::Matching(regex) => regex.capture_names().flatten().any(|group| group == name),
            Self::Any | Self::Exactly(_) => false,
        }
    }

    fn groups(&self, what: &str, values: &[String]) -> Result<Groups, TokenError> {
        let Self::Matching(regex) = self else {
            return Ok(Groups::new());
        };
        let captures = values.iter().find_map(|value| regex.captures(value));
        let captures = captures.ok_or_else(|| mismatch(what))?;
        let matched = regex.capture_names().flatten().filter_map(|name| {
            captures.name(name).map(|value| (name.to_owned(), value.as_str().to_owned()))
        });
        Ok(matched.collect())
    }

    fn check(&self, what: &str, values: &[String]) -> Result<(), TokenError> {
        let passes = match self {
            Self::Any => true,
            Self::Exactly(expected) => values.contains(expected),
            Self::Matching(regex) => values.iter().any(|value| regex.is_match(value)),
        };
        if passes { Ok(()) } else { Err(mismatch(what)) }
    }
}

/// A token is good from `nbf` on and before `exp`, to the second.
fn check_time(validity: &Validity, now: i64) -> Result<(), TokenError> {
    let over = validity.exp.is_some_and(|exp| exp.0 <= now);
    let early = validity.nbf.is_some_and(|nbf| nbf.0 > now);
    if over || early { Err(TokenError::Expired) } else { Ok(()) }
}

/// The parts of a token in compact form, RFC 7515 section 7.1, as they were written.
struct Parts<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    /// What was signed: header and payload with the dot between them.
    message: &'a str,
}

/// The header's fields that matter here. What else it may carry (`jku`, `jwk`, `x5u`, ...) names
/// keys of the sender's choice and is not looked at.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN_LENGTH {
            return Err(invalid("it is too long"));
        }
        let three = || {
            let (message, signature) = token.rsplit_once('.')?;
            let (header, payload) = message.split_once('.')?;
            (!payload.contains('.')).then_some(Self { header, payload, signature, message })
        };
        three().ok_or_else(|| invalid("it has not three parts"))
    }

    fn payload(&self) -> Result<Vec<u8>, TokenError> {
        URL_SAFE_NO_PAD
            .decode(self.payload)
            .map_err(|_| invalid("the payload is not base64url without padding"))
    }

    fn header(&self) -> Result<Header, TokenError> {
        let json = URL_SAFE_NO_PAD
            .decode(self.header)
            .map_err(|_| invalid("the header is not base64url without padding"))?;
        let header: Header =
            serde_json::from_slice(&json).map_err(|_| invalid("the header cannot be read"))?;
        // RFC 7515 section 4.1.11: who does not understand what `crit` lists must refuse.
        if header.crit.is_some() {
            return Err(invalid("the header holds crit, of which nothing is supported"));
        }
        Ok(header)
    }
}

fn invalid(reason: impl Into<String>) -> TokenError {
    TokenError::Invalid(reason.into())
}

fn mismatch(what: &str) -> TokenError {
    TokenError::Invalid(format!("its {what} is not the expected one"))
}

#[cfg(test)]
mod tests;
