//! One test per rule of verification, and one per algorithm.

use aws_lc_rs::rsa::KeySize;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::auth::testing::{NOW, Signer, message};

fn hmac_settings() -> TokenSettings {
    TokenSettings { hmac_secret_key: "secret".into(), ..TokenSettings::default() }
}

fn hmac_verifier() -> TokenVerifier {
    TokenVerifier::new(hmac_settings()).unwrap()
}

fn hmac_token(claims: serde_json::Value) -> String {
    Signer::hmac("HS256", "secret").token(claims)
}

async fn outcome(settings: TokenSettings, token: &str) -> Result<String, TokenError> {
    let verifier = TokenVerifier::new(settings).unwrap();
    verifier.verify_connect(token, NOW).await.map(|claims| claims.user)
}

async fn assert_accepted(settings: TokenSettings, token: &str) {
    assert_eq!(outcome(settings, token).await.as_deref(), Ok("ann"), "{token}");
}

async fn assert_invalid(settings: TokenSettings, token: &str) {
    let outcome = outcome(settings, token).await;
    assert!(matches!(outcome, Err(TokenError::Invalid(_))), "{outcome:?} for {token}");
}

fn settings_error(settings: TokenSettings) -> SettingsError {
    TokenVerifier::new(settings).unwrap_err()
}

/// The same claims under another signature, to show that the signature was looked at.
fn forged(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{message}.{first}{}", &signature[1..])
}

#[tokio::test]
async fn hmac_tokens_are_verified() {
    for alg in ["HS256", "HS384", "HS512"] {
        let token = Signer::hmac(alg, "secret").token(json!({"sub": "ann"}));
        assert_accepted(hmac_settings(), &token).await;
        assert_invalid(hmac_settings(), &forged(&token)).await;
        let stranger = Signer::hmac(alg, "guess").token(json!({"sub": "ann"}));
        assert_invalid(hmac_settings(), &stranger).await;
    }
}

#[tokio::test]
async fn rsa_tokens_are_verified() {
    for alg in ["RS256", "RS384", "RS512"] {
        let signer = Signer::rsa(alg);
        let settings = TokenSettings { rsa_public_key: signer.pem(), ..TokenSettings::default() };
        let token = signer.token(json!({"sub": "ann"}));
        assert_accepted(settings.clone(), &token).await;
        assert_invalid(settings, &forged(&token)).await;
    }
}

/// ES512 among them, which does not go through the same library as the others.
#[tokio::test]
async fn ecdsa_tokens_are_verified() {
    for alg in ["ES256", "ES384", "ES512"] {
        let signer = Signer::ec(alg);
        let settings = TokenSettings { ecdsa_public_key: signer.pem(), ..TokenSettings::default() };
        let token = signer.token(json!({"sub": "ann"}));
        assert_accepted(settings.clone(), &token).await;
        assert_invalid(settings.clone(), &forged(&token)).await;
        let stranger = Signer::ec(alg).token(json!({"sub": "ann"}));
        assert_invalid(settings, &stranger).await;
    }
}

#[tokio::test]
async fn an_ecdsa_algorithm_needs_its_own_curve() {
    let signer = Signer::ec("ES256");
    let settings = TokenSettings { ecdsa_public_key: signer.pem(), ..TokenSettings::default() };
    for alg in ["ES384", "ES512"] {
        let token = signer.token_with_header(json!({"alg": alg}), json!({"sub": "ann"}));
        assert_invalid(settings.clone(), &token).await;
    }
}

#[tokio::test]
async fn keys_of_several_kinds_serve_side_by_side() {
    let (rsa, ec) = (Signer::rsa("RS256"), Signer::ec("ES256"));
    let settings =
        TokenSettings { rsa_public_key: rsa.pem(), ecdsa_public_key: ec.pem(), ..hmac_settings() };
    for token in [
        rsa.token(json!({"sub": "ann"})),
        ec.token(json!({"sub": "ann"})),
        hmac_token(json!({"sub": "ann"})),
    ] {
        assert_accepted(settings.clone(), &token).await;
    }
}

#[tokio::test]
async fn pss_is_refused_although_the_rsa_key_would_match() {
    for alg in ["PS256", "PS384", "PS512"] {
        let signer = Signer::rsa(alg);
        let settings = TokenSettings { rsa_public_key: signer.pem(), ..TokenSettings::default() };
        assert_invalid(settings, &signer.token(json!({"sub": "ann"}))).await;
    }
}

#[tokio::test]
async fn none_and_unknown_algorithms_are_refused() {
    for alg in ["none", "None", "NONE", "", "hs256", "HS257", "ES256K", "Ed448", "\u{0}"] {
        let unsigned = format!("{}.", message(json!({"alg": alg}), json!({"sub": "ann"})));
        assert_invalid(hmac_settings(), &unsigned).await;
        let header = json!({"alg": alg});
        let signed = Signer::hmac("HS256", "secret").token_with_header(header, json!({}));
        assert_invalid(hmac_settings(), &signed).await;
    }
    let without = Signer::hmac("HS256", "secret").token_with_header(json!({}), json!({}));
    assert_invalid(hmac_settings(), &without).await;
}

#[tokio::test]
async fn a_public_key_is_never_the_secret_of_an_hmac() {
    let rsa = Signer::rsa("RS256").pem();
    let ec = Signer::ec("ES256").pem();
    let settings = TokenSettings {
        rsa_public_key: rsa.clone(),
        ecdsa_public_key: ec.clone(),
        ..TokenSettings::default()
    };
    let with_hmac = TokenSettings { hmac_secret_key: "secret".into(), ..settings.clone() };
    for public in [rsa.as_str(), rsa.trim(), ec.as_str(), ec.trim()] {
        let token = Signer::hmac("HS256", public).token(json!({"sub": "ann"}));
        assert_invalid(settings.clone(), &token).await;
        assert_invalid(with_hmac.clone(), &token).await;
    }
}

#[tokio::test]
async fn eddsa_needs_a_key_set() {
    let token = Signer::ed().token(json!({"sub": "ann"}));
    assert_invalid(hmac_settings(), &token).await;
    let settings = TokenSettings { ecdsa_public_key: Signer::ed().pem(), ..hmac_settings() };
    assert_eq!(settings_error(settings).key, "ecdsa_public_key");
}

#[tokio::test]
async fn an_algorithm_without_a_key_is_invalid() {
    let token = Signer::rsa("RS256").token(json!({"sub": "ann"}));
    assert_invalid(hmac_settings(), &token).await;
    // An empty secret is no secret, and not the secret "".
    let token = Signer::hmac("HS256", "").token(json!({"sub": "ann"}));
    assert_invalid(TokenSettings::default(), &token).await;
    assert_invalid(hmac_settings(), &token).await;
}

#[tokio::test]
async fn the_previous_secret_is_honoured_until_its_time_inclusive() {
    let token = Signer::hmac("HS256", "old").token(json!({"sub": "ann"}));
    let settings = |until| TokenSettings {
        hmac_previous_secret_key: "old".into(),
        hmac_previous_secret_key_valid_until: until,
        ..hmac_settings()
    };
    assert_accepted(settings(0), &token).await;
    assert_accepted(settings(NOW), &token).await;
    assert_invalid(settings(NOW - 1), &token).await;
    assert_accepted(settings(NOW - 1), &hmac_token(json!({"sub": "ann"}))).await;
    assert_invalid(TokenSettings { hmac_secret_key: String::new(), ..settings(0) }, &token).await;
}

#[tokio::test]
async fn leeway_is_zero() {
    let token = hmac_token(json!({"sub": "ann", "exp": NOW}));
    let verifier = hmac_verifier();
    assert!(verifier.verify_connect(&token, NOW - 1).await.is_ok());
    for late in [NOW, NOW + 1, i64::MAX] {
        assert_eq!(verifier.verify_connect(&token, late).await, Err(TokenError::Expired));
    }
}

#[tokio::test]
async fn exp_is_optional() {
    let claims = hmac_verifier().verify_connect(&hmac_token(json!({})), NOW).await.unwrap();
    assert_eq!((claims.user.as_str(), claims.expire_at), ("", None));
}

#[tokio::test]
async fn a_token_not_valid_yet_counts_as_expired() {
    let token = hmac_token(json!({"sub": "ann", "nbf": NOW + 1}));
    let verifier = hmac_verifier();
    assert_eq!(verifier.verify_connect(&token, NOW).await, Err(TokenError::Expired));
    assert!(verifier.verify_connect(&token, NOW + 1).await.is_ok());
}

#[tokio::test]
async fn extreme_dates_do_not_overflow() {
    let verifier = hmac_verifier();
    for (claims, now, valid) in [
        (json!({"exp": 1e300, "nbf": -1e300}), i64::MAX - 1, true),
        (json!({"exp": u64::MAX}), NOW, true),
        (json!({"exp": -5}), NOW, false),
        (json!({"exp": i64::MIN}), i64::MIN, false),
        (json!({"nbf": 1e300}), NOW, false),
        (json!({"exp": NOW as f64 + 1.5}), NOW, true),
    ] {
        let outcome = verifier.verify_connect(&hmac_token(claims.clone()), now).await;
        let expected = if valid { Ok(()) } else { Err(TokenError::Expired) };
        assert_eq!(outcome.map(|_| ()), expected, "{claims}");
    }
}

#[tokio::test]
async fn exp_limits_the_token_whatever_expire_at_says() {
    let token = hmac_token(json!({"exp": NOW - 1, "expire_at": 0}));
    assert_eq!(hmac_verifier().verify_connect(&token, NOW).await, Err(TokenError::Expired));
    let token = hmac_token(json!({"exp": NOW + 9, "expire_at": NOW - 1}));
    let claims = hmac_verifier().verify_connect(&token, NOW).await.unwrap();
    assert_eq!(claims.expire_at, Some(NOW - 1));
}

#[tokio::test]
async fn audience_and_issuer_are_ignored_unless_configured() {
    let token = hmac_token(json!({"sub": "ann", "aud": ["elsewhere"], "iss": "anyone"}));
    assert_accepted(hmac_settings(), &token).await;
}

#[tokio::test]
async fn a_configured_audience_must_be_among_the_tokens() {
    let settings = TokenSettings { audience: "chat".into(), ..hmac_settings() };
    for accepted in [json!("chat"), json!(["mail", "chat"])] {
        let token = hmac_token(json!({"sub": "ann", "aud": accepted}));
        assert_accepted(settings.clone(), &token).await;
    }
    for refused in [json!("chats"), json!(["mail"]), json!([]), json!(null), json!(["Chat"])] {
        let token = hmac_token(json!({"sub": "ann", "aud": refused}));
        assert_invalid(settings.clone(), &token).await;
    }
    assert_invalid(settings, &hmac_token(json!({"sub": "ann"}))).await;
}

#[tokio::test]
async fn a_configured_audience_pattern_must_match_one_of_the_tokens() {
    let settings = TokenSettings { audience_regex: "^chat-[0-9]$".into(), ..hmac_settings() };
    let token = |aud| hmac_token(json!({"sub": "ann", "aud": aud}));
    assert_accepted(settings.clone(), &token(json!(["mail", "chat-1"]))).await;
    assert_invalid(settings.clone(), &token(json!(["mail", "chat-x"]))).await;
    assert_invalid(settings, &token(json!([]))).await;
}

#[tokio::test]
async fn a_configured_issuer_must_be_the_tokens() {
    let token = |iss| hmac_token(json!({"sub": "ann", "iss": iss}));
    let exact = TokenSettings { issuer: "https://id".into(), ..hmac_settings() };
    assert_accepted(exact.clone(), &token("https://id")).await;
    assert_invalid(exact.clone(), &token("https://id/")).await;
    assert_invalid(exact, &hmac_token(json!({"sub": "ann"}))).await;
    let pattern = TokenSettings { issuer_regex: "^https://(a|b)$".into(), ..hmac_settings() };
    assert_accepted(pattern.clone(), &token("https://b")).await;
    assert_invalid(pattern, &token("https://c")).await;
}

#[tokio::test]
async fn a_bad_signature_is_told_before_anything_the_claims_say() {
    let expired = json!({"sub": "ann", "exp": NOW - 1});
    assert_invalid(hmac_settings(), &Signer::hmac("HS256", "guess").token(expired)).await;
}

#[tokio::test]
async fn a_wrong_audience_is_told_before_expiration() {
    let settings = TokenSettings { audience: "chat".into(), ..hmac_settings() };
    assert_invalid(settings, &hmac_token(json!({"exp": NOW - 1, "aud": "mail"}))).await;
}

#[tokio::test]
async fn an_expired_token_with_a_channel_claim_is_invalid_rather_than_expired() {
    assert_invalid(hmac_settings(), &hmac_token(json!({"exp": NOW - 1, "channel": "x"}))).await;
}

#[tokio::test]
async fn a_subscription_token_does_not_open_a_connection_nor_the_other_way_round() {
    let subscription = hmac_token(json!({"sub": "ann", "channel": "news"}));
    let connection = hmac_token(json!({"sub": "ann"}));
    let verifier = hmac_verifier();
    assert_eq!(verifier.verify_subscribe(&subscription, NOW).await.unwrap().channel, "news");
    assert!(verifier.verify_connect(&subscription, NOW).await.is_err());
    assert!(verifier.verify_subscribe(&connection, NOW).await.is_err());
}

#[tokio::test]
async fn subscription_tokens_expire_too() {
    let token = hmac_token(json!({"channel": "news", "exp": NOW}));
    assert_eq!(hmac_verifier().verify_subscribe(&token, NOW).await, Err(TokenError::Expired));
}

#[tokio::test]
async fn skipping_the_signature_skips_nothing_else() {
    let settings = TokenSettings {
        insecure_skip_token_signature_verify: true,
        audience: "chat".into(),
        ..hmac_settings()
    };
    let stranger = Signer::hmac("HS256", "guess");
    let token = stranger.token(json!({"sub": "ann", "aud": "chat"}));
    assert_accepted(settings.clone(), &token).await;
    assert_invalid(settings.clone(), &stranger.token(json!({"sub": "ann"}))).await;
    let expired = stranger.token(json!({"aud": "chat", "exp": NOW}));
    assert_eq!(outcome(settings, &expired).await, Err(TokenError::Expired));
}

#[tokio::test]
async fn the_user_can_come_from_another_claim() {
    let settings = TokenSettings { user_id_claim: "login".into(), ..hmac_settings() };
    assert_accepted(settings.clone(), &hmac_token(json!({"sub": "bob", "login": "ann"}))).await;
    assert_invalid(settings, &hmac_token(json!({"login": 7}))).await;
}

#[tokio::test]
async fn critical_header_fields_are_refused() {
    let header = json!({"alg": "HS256", "crit": ["b64"], "b64": false});
    let token = Signer::hmac("HS256", "secret").token_with_header(header, json!({}));
    assert_invalid(hmac_settings(), &token).await;
}

#[tokio::test]
async fn what_has_not_the_form_of_a_token_is_invalid() {
    let token = hmac_token(json!({"sub": "ann"}));
    let padded = format!("{token}=");
    let four = format!("{token}.x");
    let newline = format!("{token}\n");
    let long = hmac_token(json!({"sub": "a".repeat(MAX_TOKEN_LENGTH)}));
    for bad in ["", ".", "..", "...", "a.b", "é.é.é", &padded, &four, &newline, &long] {
        assert_invalid(hmac_settings(), bad).await;
    }
}

#[tokio::test]
async fn reasons_hold_nothing_of_the_token() {
    let claims = json!({"sub": ["swordfish"], "aud": "swordfish", "iss": "swordfish"});
    let header = json!({"alg": "swordfish", "kid": "swordfish"});
    let named = Signer::hmac("HS256", "secret").token_with_header(header, claims.clone());
    let picky = TokenSettings { issuer: "id".into(), ..hmac_settings() };
    for (settings, token) in
        [(hmac_settings(), &named), (hmac_settings(), &hmac_token(claims.clone())), (picky, &named)]
    {
        let reason = outcome(settings, token).await.unwrap_err().to_string();
        assert!(!reason.contains("swordfish"), "{reason}");
    }
}

#[test]
fn settings_that_exclude_each_other_are_named() {
    let both =
        TokenSettings { audience: "a".into(), audience_regex: "b".into(), ..hmac_settings() };
    let error = settings_error(both);
    assert_eq!(error.to_string(), "audience_regex: cannot be set together with audience");
    let both = TokenSettings { issuer: "a".into(), issuer_regex: "b".into(), ..hmac_settings() };
    assert_eq!(settings_error(both).key, "issuer_regex");
}

#[test]
fn a_bad_pattern_is_named() {
    let settings = TokenSettings { issuer_regex: "(".into(), ..hmac_settings() };
    assert_eq!(settings_error(settings).key, "issuer_regex");
}

#[test]
fn keys_that_cannot_be_read_are_named() {
    let rsa = Signer::rsa("RS256").pem();
    let ec = Signer::ec("ES256").pem();
    for bad in ["swordfish", ec.as_str(), "-----BEGIN PUBLIC KEY-----\nAAAA\n"] {
        let settings = TokenSettings { rsa_public_key: bad.into(), ..TokenSettings::default() };
        let error = settings_error(settings);
        assert!(error.to_string().starts_with("rsa_public_key: not a"), "{error}");
        assert!(!error.to_string().contains("swordfish"), "{error}");
    }
    let settings = TokenSettings { ecdsa_public_key: rsa, ..TokenSettings::default() };
    assert_eq!(settings_error(settings).key, "ecdsa_public_key");
}

#[test]
fn a_private_key_is_not_taken_for_a_public_one() {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use base64::engine::general_purpose::STANDARD;
    let key = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let body = STANDARD.encode(der.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    let settings = TokenSettings { rsa_public_key: pem, ..TokenSettings::default() };
    let error = settings_error(settings);
    assert_eq!(error.key, "rsa_public_key");
    assert!(!error.reason.contains(&body));
}

fn endpoint_settings(endpoint: &str) -> TokenSettings {
    TokenSettings {
        jwks_public_endpoint: endpoint.into(),
        issuer_regex: "^https://(?P<tenant>acme|globex)/(?P<any>.*)$".into(),
        ..TokenSettings::default()
    }
}

#[test]
fn the_address_of_a_key_set_is_filled_by_literals_only() {
    TokenVerifier::new(endpoint_settings("http://keys/{{tenant}}")).unwrap();
    let error = settings_error(endpoint_settings("http://keys/{{any}}"));
    assert_eq!(error.key, "issuer_regex");
    let unchecked = TokenSettings {
        insecure_skip_jwks_endpoint_safety_check: true,
        ..endpoint_settings("http://keys/{{any}}")
    };
    TokenVerifier::new(unchecked).unwrap();
}

#[test]
fn places_that_no_group_or_two_groups_fill_are_named() {
    let nobody = settings_error(endpoint_settings("http://keys/{{nobody}}"));
    assert_eq!(nobody.key, "jwks_public_endpoint");
    let twice = TokenSettings {
        audience_regex: "(?P<tenant>acme)".into(),
        ..endpoint_settings("http://keys/{{tenant}}")
    };
    assert_eq!(settings_error(twice).key, "jwks_public_endpoint");
    assert_eq!(settings_error(endpoint_settings("keys")).key, "jwks_public_endpoint");
}

#[tokio::test]
async fn a_key_set_replaces_the_other_keys() {
    let settings =
        TokenSettings { jwks_public_endpoint: "http://127.0.0.1:1/keys".into(), ..hmac_settings() };
    assert_invalid(settings, &hmac_token(json!({"sub": "ann"}))).await;
}

/// Sessions run on whatever thread is free.
#[test]
fn verification_can_move_between_threads() {
    fn movable(_: impl Send) {}
    let verifier = hmac_verifier();
    movable(verifier.verify_connect("", NOW));
    movable(verifier.verify_subscribe("", NOW));
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn no_text_makes_verification_panic(token in ".{0,200}") {
        let verifier = hmac_verifier();
        prop_assert!(block_on(verifier.verify_connect(&token, NOW)).is_err());
        prop_assert!(block_on(verifier.verify_subscribe(&token, NOW)).is_err());
        let _ = unverified_payload(&token);
    }

    #[test]
    fn no_bytes_in_the_parts_make_verification_panic(header: Vec<u8>, payload: Vec<u8>) {
        let parts = [&header, &payload, &header].map(|part| URL_SAFE_NO_PAD.encode(part));
        prop_assert!(block_on(hmac_verifier().verify_connect(&parts.join("."), NOW)).is_err());
    }

    #[test]
    fn no_signature_of_random_bytes_passes(signature: Vec<u8>) {
        let signature = URL_SAFE_NO_PAD.encode(signature);
        let settings = TokenSettings {
            rsa_public_key: Signer::rsa("RS256").pem(),
            ecdsa_public_key: Signer::ec("ES512").pem(),
            ..hmac_settings()
        };
        let verifier = TokenVerifier::new(settings).unwrap();
        for alg in ["HS256", "RS256", "ES256", "ES512"] {
            let token = format!("{}.{signature}", message(json!({"alg": alg}), json!({})));
            prop_assert!(block_on(verifier.verify_connect(&token, NOW)).is_err());
        }
    }
}
