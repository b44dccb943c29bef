//! From configuration to the rules that a reload replaces.

use crate::auth::{SettingsError, TokenSettings, TokenVerifier};
use crate::channel::Namespaces;
use crate::config::{Client, Config, Token};
use crate::node::Rules;

/// A rule that cannot be put in force.
#[derive(Debug, thiserror::Error)]
#[error("{section}.{error}")]
pub struct RulesError {
    section: &'static str,
    error: String,
}

/// Channel rules and token keys of a configuration.
pub fn rules_of(config: &Config) -> Result<Rules, RulesError> {
    let skip = config.client.insecure_skip_token_signature_verify;
    let failed =
        |section| move |error: SettingsError| RulesError { section, error: error.to_string() };
    let connection_tokens =
        TokenVerifier::new(settings(&config.client.token, skip)).map_err(failed("client.token"))?;
    let separate = &config.client.subscription_token;
    let subscription_tokens = separate
        .enabled
        .then(|| TokenVerifier::new(settings(&separate.token(), skip)))
        .transpose()
        .map_err(failed("client.subscription_token"))?;
    let channels = Namespaces::new(&config.channel)
        .map_err(|error| RulesError { section: "channel", error: error.to_string() })?;
    Ok(Rules { channels, connection_tokens, subscription_tokens })
}

/// What connection tokens are verified with or, with `of_subscriptions`, subscription tokens.
pub fn token_settings(client: &Client, of_subscriptions: bool) -> TokenSettings {
    let skip = client.insecure_skip_token_signature_verify;
    let separate = &client.subscription_token;
    if of_subscriptions && separate.enabled {
        settings(&separate.token(), skip)
    } else {
        settings(&client.token, skip)
    }
}

/// What a verifier needs of a token section.
fn settings(token: &Token, skip_signature: bool) -> TokenSettings {
    TokenSettings {
        hmac_secret_key: token.hmac_secret_key.expose().to_owned(),
        hmac_previous_secret_key: token.hmac_previous_secret_key.expose().to_owned(),
        hmac_previous_secret_key_valid_until: token.hmac_previous_secret_key_valid_until,
        rsa_public_key: token.rsa_public_key.text().unwrap_or_default().to_owned(),
        ecdsa_public_key: token.ecdsa_public_key.text().unwrap_or_default().to_owned(),
        jwks_public_endpoint: token.jwks_public_endpoint.clone(),
        audience: token.audience.clone(),
        audience_regex: token.audience_regex.clone(),
        issuer: token.issuer.clone(),
        issuer_regex: token.issuer_regex.clone(),
        user_id_claim: token.user_id_claim.clone(),
        insecure_skip_jwks_endpoint_safety_check: token.insecure_skip_jwks_endpoint_safety_check,
        insecure_skip_token_signature_verify: skip_signature,
    }
}
