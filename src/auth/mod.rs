//! Tokens: claims, verification, key sets, issuing.
//!
//! A [`TokenVerifier`] is built once from [`TokenSettings`] and never changes, so a reload builds a
//! new one and swaps it whole: no token is ever checked with half of the old keys.
//!
//! To add an algorithm: name it in `keys.rs`, and in the table of `docs/tokens.md`.

use std::fmt;

mod claims;
mod endpoint;
pub mod issue;
mod jwks;
mod keys;
#[cfg(test)]
mod testing;
mod verify;

pub use claims::{ConnectClaims, OptionOverride, SubscribeClaims, SubscribeOptionsClaim};
pub use verify::{MAX_TOKEN_LENGTH, TokenError, TokenVerifier, unverified_payload};

/// What a verifier is built from: the keys of `client.token` or `client.subscription_token`.
/// An empty string means "not set".
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TokenSettings {
    /// Checks HS256, HS384 and HS512.
    pub hmac_secret_key: String,
    /// Tried when `hmac_secret_key` does not match.
    pub hmac_previous_secret_key: String,
    /// Unix seconds until which, inclusive, the previous key is honoured; 0 is for ever.
    pub hmac_previous_secret_key_valid_until: i64,
    /// PEM; checks RS256, RS384 and RS512.
    pub rsa_public_key: String,
    /// PEM; checks ES256, ES384 or ES512, whichever its curve belongs to.
    pub ecdsa_public_key: String,
    /// URL of a key set, which replaces all keys above. May hold `{{name}}`.
    pub jwks_public_endpoint: String,
    /// A token must name exactly this audience, maybe among others.
    pub audience: String,
    /// One audience of a token must match this.
    pub audience_regex: String,
    /// A token must be from exactly this issuer.
    pub issuer: String,
    /// The issuer of a token must match this.
    pub issuer_regex: String,
    /// The claim that holds the user ID; `sub` when empty.
    pub user_id_claim: String,
    /// Lets any pattern, not only a list of literals, fill the places of `jwks_public_endpoint`.
    pub insecure_skip_jwks_endpoint_safety_check: bool,
    /// Takes every token at its word.
    pub insecure_skip_token_signature_verify: bool,
}

impl fmt::Debug for TokenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = |value: &str| if value.is_empty() { "" } else { "[redacted]" };
        f.debug_struct("TokenSettings")
            .field("hmac_secret_key", &secret(&self.hmac_secret_key))
            .field("hmac_previous_secret_key", &secret(&self.hmac_previous_secret_key))
            .field("rsa_public_key", &self.rsa_public_key)
            .field("ecdsa_public_key", &self.ecdsa_public_key)
            .field("jwks_public_endpoint", &endpoint::without_query(&self.jwks_public_endpoint))
            .field("audience", &self.audience)
            .field("audience_regex", &self.audience_regex)
            .field("issuer", &self.issuer)
            .field("issuer_regex", &self.issuer_regex)
            .field("user_id_claim", &self.user_id_claim)
            .finish_non_exhaustive()
    }
}

/// Why no verifier can be built from [`TokenSettings`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct SettingsError {
    /// The setting at fault, without the path to its block.
    pub key: &'static str,
    /// What is wrong with it; never holds a secret.
    pub reason: String,
}

impl SettingsError {
    fn new(key: &'static str, reason: impl Into<String>) -> Self {
        Self { key, reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_holds_no_secret() {
        let settings = TokenSettings {
            hmac_secret_key: "swordfish".into(),
            hmac_previous_secret_key: "marlin".into(),
            jwks_public_endpoint: "https://keys.example.com/set?code=herring".into(),
            ..TokenSettings::default()
        };
        let printed = format!("{settings:?}");
        for secret in ["swordfish", "marlin", "herring"] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }
}
