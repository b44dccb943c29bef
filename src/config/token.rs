//! How tokens are checked.

use super::setting::section;
use super::tls::Pem;
use super::units::Secret;

section! {
    /// Keys and claims to check tokens with. Keys left empty leave their algorithms off.
    pub struct Token {
        /// Key of HS256, HS384 and HS512.
        pub hmac_secret_key: Secret,
        /// Also tried, so that the key can be changed without a break.
        pub hmac_previous_secret_key: Secret,
        /// Unix seconds until which the previous key counts; 0 for no end.
        pub hmac_previous_secret_key_valid_until: i64,
        /// Public key of RS256, RS384 and RS512.
        pub rsa_public_key: Pem,
        /// Public key of ES256, ES384 and ES512.
        pub ecdsa_public_key: Pem,
        /// URL of a JWKS; when set, the keys above do not count. May hold `{{name}}` of named
        /// groups of `issuer_regex` and `audience_regex`.
        pub jwks_public_endpoint: String,
        /// One of the token's audiences must be this.
        pub audience: String,
        /// One of the token's audiences must match this.
        pub audience_regex: String,
        /// The token's issuer must be this.
        pub issuer: String,
        /// The token's issuer must match this.
        pub issuer_regex: String,
        /// Claim that holds the user ID in the place of `sub`.
        pub user_id_claim: String,
        /// Allows any group in a templated JWKS URL, not only a choice of literals.
        pub insecure_skip_jwks_endpoint_safety_check: bool,
    }
}

section! {
    /// The same for subscription tokens, if they have keys of their own.
    pub struct SubscriptionToken {
        /// Off: `client.token` serves both.
        pub enabled: bool,
        pub hmac_secret_key: Secret,
        pub hmac_previous_secret_key: Secret,
        pub hmac_previous_secret_key_valid_until: i64,
        pub rsa_public_key: Pem,
        pub ecdsa_public_key: Pem,
        pub jwks_public_endpoint: String,
        pub audience: String,
        pub audience_regex: String,
        pub issuer: String,
        pub issuer_regex: String,
        pub user_id_claim: String,
        pub insecure_skip_jwks_endpoint_safety_check: bool,
    }
}

impl SubscriptionToken {
    /// The rules without the switch.
    pub fn token(&self) -> Token {
        Token {
            hmac_secret_key: self.hmac_secret_key.clone(),
            hmac_previous_secret_key: self.hmac_previous_secret_key.clone(),
            hmac_previous_secret_key_valid_until: self.hmac_previous_secret_key_valid_until,
            rsa_public_key: self.rsa_public_key.clone(),
            ecdsa_public_key: self.ecdsa_public_key.clone(),
            jwks_public_endpoint: self.jwks_public_endpoint.clone(),
            audience: self.audience.clone(),
            audience_regex: self.audience_regex.clone(),
            issuer: self.issuer.clone(),
            issuer_regex: self.issuer_regex.clone(),
            user_id_claim: self.user_id_claim.clone(),
            insecure_skip_jwks_endpoint_safety_check: self.insecure_skip_jwks_endpoint_safety_check,
        }
    }
}
