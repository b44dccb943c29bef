//! Settings for a first try on one's own machine.

use super::secrets::{NoRandomness, random_text};
use super::{Config, Secret};

/// Opens what development needs and is still shut, and returns what to tell the developer. The
/// secrets in it were made for this run alone and are meant to be shown.
///
/// # Errors
/// There is no randomness for the secrets.
pub fn prepare(config: &mut Config) -> Result<Vec<String>, NoRandomness> {
    let mut told = Vec::new();
    let token = &mut config.client.token;
    if token.hmac_secret_key.is_empty()
        && token.rsa_public_key.is_empty()
        && token.ecdsa_public_key.is_empty()
        && token.jwks_public_endpoint.is_empty()
    {
        let secret = random_text(64)?;
        token.hmac_secret_key = Secret::new(&secret);
        told.push(format!("client.token.hmac_secret_key = {secret}"));
    }
    if config.http_api.key.is_empty() && !config.http_api.insecure {
        let key = random_text(64)?;
        config.http_api.key = Secret::new(&key);
        told.push(format!("http_api.key = {key}"));
    }
    if config.client.allowed_origins.is_empty() {
        config.client.allowed_origins = vec!["*".into()];
        told.push("client.allowed_origins = *".into());
    }
    for (key, on) in [
        ("health.enabled", &mut config.health.enabled),
        ("prometheus.enabled", &mut config.prometheus.enabled),
        ("swagger.enabled", &mut config.swagger.enabled),
    ] {
        if !*on {
            *on = true;
            told.push(format!("{key} = true"));
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_stays() {
        let mut config = Config::default();
        config.http_api.key = Secret::new("mine");
        config.client.allowed_origins = vec!["https://example.com".into()];
        let told = prepare(&mut config).expect("randomness");
        assert_eq!(config.http_api.key.expose(), "mine");
        assert_eq!(config.client.allowed_origins, ["https://example.com"]);
        assert_eq!(config.client.token.hmac_secret_key.expose().len(), 64);
        assert!(told.iter().any(|line| line.contains("hmac_secret_key")), "{told:?}");
        assert!(!told.iter().any(|line| line.contains("http_api.key")), "{told:?}");
    }
}
