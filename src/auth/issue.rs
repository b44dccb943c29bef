//! Tokens signed here: for the command line and for trying things out. An application's backend
//! issues its own.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A connection token, signed with HS256. `ttl` is in seconds, `None` never expires; `now` is in
/// unix seconds.
pub fn connection_token(secret: &str, user: &str, ttl: Option<u32>, now: i64) -> String {
    sign(secret, with_expiration(json!({"sub": user, "iat": now}), ttl, now))
}

/// A token for a subscription of `user` to `channel`, signed with HS256. `ttl` is in seconds,
/// `None` never expires; `now` is in unix seconds.
pub fn subscription_token(
    secret: &str,
    user: &str,
    channel: &str,
    ttl: Option<u32>,
    now: i64,
) -> String {
    let claims = json!({"sub": user, "channel": channel, "iat": now});
    sign(secret, with_expiration(claims, ttl, now))
}

fn with_expiration(mut claims: Value, ttl: Option<u32>, now: i64) -> Value {
    if let Some(ttl) = ttl {
        claims["exp"] = json!(now.saturating_add(i64::from(ttl)));
    }
    claims
}

fn sign(secret: &str, claims: Value) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
    format!("{message}.{signature}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{TokenError, TokenSettings, TokenVerifier};

    const NOW: i64 = 1_700_000_000;

    fn verifier() -> TokenVerifier {
        let settings =
            TokenSettings { hmac_secret_key: "secret".into(), ..TokenSettings::default() };
        TokenVerifier::new(settings).unwrap()
    }

    #[tokio::test]
    async fn an_issued_connection_token_is_valid_until_its_ttl_is_over() {
        let token = connection_token("secret", "ann", Some(60), NOW);
        let claims = verifier().verify_connect(&token, NOW + 59).await.unwrap();
        assert_eq!((claims.user.as_str(), claims.expire_at), ("ann", Some(NOW + 60)));
        let late = verifier().verify_connect(&token, NOW + 60).await;
        assert_eq!(late, Err(TokenError::Expired));
    }

    #[tokio::test]
    async fn an_issued_token_without_ttl_never_expires() {
        let token = connection_token("secret", "", None, NOW);
        let claims = verifier().verify_connect(&token, i64::MAX).await.unwrap();
        assert_eq!((claims.user.as_str(), claims.expire_at), ("", None));
    }

    #[tokio::test]
    async fn an_issued_subscription_token_names_user_and_channel() {
        let token = subscription_token("secret", "ann", "news", Some(60), NOW);
        let claims = verifier().verify_subscribe(&token, NOW).await.unwrap();
        assert_eq!((claims.user.as_str(), claims.channel.as_str()), ("ann", "news"));
        verifier().verify_connect(&token, NOW).await.unwrap_err();
    }
}
