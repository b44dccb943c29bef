//! Key sets against a publisher on this machine that says what a test wants.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Response, server::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::auth::testing::{NOW, Signer};
use crate::auth::{TokenError, TokenSettings, TokenVerifier};

const HOUR: i64 = CACHE_LIFETIME as i64;
/// Just long enough after `NOW` for a set to be asked for again.
const LATER: i64 = NOW + PAUSE_AFTER_SUCCESS as i64;

#[derive(Clone)]
enum Answer {
    Keys(Vec<Value>),
    Status(u16),
    Text(String),
    Redirect(String),
    Silence,
}

/// Gives its answers one after the other, the last one for ever.
struct Publisher {
    url: String,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    hits: Arc<AtomicUsize>,
    paths: Arc<Mutex<Vec<String>>>,
}

impl Publisher {
    async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let publisher = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            hits: Arc::default(),
            paths: Arc::default(),
        };
        let (answers, hits) = (Arc::clone(&publisher.answers), Arc::clone(&publisher.hits));
        let paths = Arc::clone(&publisher.paths);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, hits) = (Arc::clone(&answers), Arc::clone(&hits));
                let paths = Arc::clone(&paths);
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    hits.fetch_add(1, Ordering::SeqCst);
                    paths.lock().push(request.uri().path().to_owned());
                    answer(next(&answers))
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        publisher
    }

    fn says(&self, answer: Answer) {
        *self.answers.lock() = VecDeque::from([answer]);
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    fn verifier(&self) -> TokenVerifier {
        verifier_of(format!("{}/keys", self.url))
    }
}

fn next(answers: &Mutex<VecDeque<Answer>>) -> Answer {
    let mut answers = answers.lock();
    let first = answers.front().cloned().unwrap();
    if answers.len() > 1 {
        answers.pop_front();
    }
    first
}

async fn answer(answer: Answer) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, location, body) = match answer {
        Answer::Keys(keys) => (200, None, json!({"keys": keys}).to_string()),
        Answer::Status(status) => (status, None, String::new()),
        Answer::Text(text) => (200, None, text),
        Answer::Redirect(to) => (302, Some(to), String::new()),
        Answer::Silence => std::future::pending().await,
    };
    let mut response = Response::builder().status(status);
    if let Some(location) = location {
        response = response.header("location", location);
    }
    Ok(response.body(Full::from(body)).unwrap())
}

fn verifier_of(jwks_public_endpoint: String) -> TokenVerifier {
    TokenVerifier::new(TokenSettings { jwks_public_endpoint, ..TokenSettings::default() }).unwrap()
}

async fn user(verifier: &TokenVerifier, token: &str, now: i64) -> Result<String, TokenError> {
    verifier.verify_connect(token, now).await.map(|claims| claims.user)
}

fn ann() -> Value {
    json!({"sub": "ann"})
}

fn with(mut jwk: Value, field: &str, value: Value) -> Value {
    jwk[field] = value;
    jwk
}

#[tokio::test]
async fn every_kind_of_key_is_verified_eddsa_among_them() {
    let signers = [
        Signer::rsa("RS256"),
        Signer::rsa("RS384"),
        Signer::rsa("RS512"),
        Signer::ec("ES256"),
        Signer::ec("ES384"),
        Signer::ec("ES512"),
        Signer::ed(),
    ];
    let keys = signers.iter().map(|signer| signer.jwk(signer.alg())).collect();
    let publisher = Publisher::start([Answer::Keys(keys)]).await;
    let verifier = publisher.verifier();
    for signer in &signers {
        let token = signer.token_of(signer.alg(), ann());
        assert_eq!(user(&verifier, &token, NOW).await.as_deref(), Ok("ann"), "{}", signer.alg());
    }
    let stranger = Signer::ed().token_of("EdDSA", ann());
    user(&verifier, &stranger, NOW).await.unwrap_err();
    assert_eq!(publisher.hits(), 1);
}

#[tokio::test]
async fn pss_and_hmac_are_refused_whatever_the_set_holds() {
    let (pss, hmac) = (Signer::rsa("PS256"), Signer::hmac("HS256", "secret"));
    let publisher = Publisher::start([Answer::Keys(vec![pss.jwk("p"), hmac.jwk("h")])]).await;
    let verifier = publisher.verifier();
    user(&verifier, &pss.token_of("p", ann()), NOW).await.unwrap_err();
    user(&verifier, &hmac.token_of("h", ann()), NOW).await.unwrap_err();
    assert_eq!(publisher.hits(), 0);
}

#[tokio::test]
async fn a_token_without_kid_is_invalid_and_asks_nobody() {
    let signer = Signer::ed();
    let publisher = Publisher::start([Answer::Keys(vec![signer.jwk("")])]).await;
    let verifier = publisher.verifier();
    user(&verifier, &signer.token(ann()), NOW).await.unwrap_err();
    user(&verifier, &signer.token_of("", ann()), NOW).await.unwrap_err();
    assert_eq!(publisher.hits(), 0);
}

#[tokio::test]
async fn only_keys_for_signatures_are_used() {
    let signer = Signer::ed();
    let keys = vec![
        with(signer.jwk("enc"), "use", json!("enc")),
        with(signer.jwk("unsaid"), "use", json!(null)),
    ];
    let publisher = Publisher::start([Answer::Keys(keys)]).await;
    let verifier = publisher.verifier();
    for kid in ["enc", "unsaid"] {
        user(&verifier, &signer.token_of(kid, ann()), NOW).await.unwrap_err();
    }
}

#[tokio::test]
async fn the_alg_of_a_key_must_be_the_tokens_if_there_is_one() {
    let (rsa, ed) = (Signer::rsa("RS256"), Signer::ed());
    let keys = vec![
        with(rsa.jwk("right"), "alg", json!("RS256")),
        with(rsa.jwk("wrong"), "alg", json!("RS512")),
        with(rsa.jwk("pss"), "alg", json!("PS256")),
        with(ed.jwk("odd"), "alg", json!("ES256")),
    ];
    let publisher = Publisher::start([Answer::Keys(keys)]).await;
    let verifier = publisher.verifier();
    assert!(user(&verifier, &rsa.token_of("right", ann()), NOW).await.is_ok());
    user(&verifier, &rsa.token_of("wrong", ann()), NOW).await.unwrap_err();
    user(&verifier, &rsa.token_of("pss", ann()), NOW).await.unwrap_err();
    user(&verifier, &ed.token_of("odd", ann()), NOW).await.unwrap_err();
}

#[tokio::test]
async fn broken_entries_take_no_other_key_with_them() {
    let signer = Signer::ed();
    let keys = vec![
        json!(null),
        json!({"kty": 5}),
        json!({"kty": "RSA", "kid": "a", "use": "sig", "n": "AQAB", "e": "AQAB"}),
        json!({"kty": "EC", "kid": "b", "use": "sig", "crv": "P-256", "x": "AA"}),
        json!({"kty": "OKP", "kid": "c", "use": "sig", "crv": "Ed448", "x": "AA"}),
        json!({"kty": "AKP", "kid": "d", "use": "sig"}),
        signer.jwk("good"),
    ];
    let publisher = Publisher::start([Answer::Keys(keys)]).await;
    let verifier = publisher.verifier();
    assert!(user(&verifier, &signer.token_of("good", ann()), NOW).await.is_ok());
    for kid in ["a", "b", "c", "d"] {
        user(&verifier, &signer.token_of(kid, ann()), NOW).await.unwrap_err();
    }
}

#[tokio::test]
async fn coordinates_without_their_leading_zeros_are_understood() {
    let jwk = |x: &str| -> Jwk {
        let entry = json!({"kty": "EC", "crv": "P-521", "x": x, "y": "AQ"});
        serde_json::from_value(entry).unwrap()
    };
    assert!(jwk("AQ").key().is_some());
    assert!(jwk(&"A".repeat(100)).key().is_none());
}

#[tokio::test]
async fn a_set_is_kept_for_an_hour() {
    let signer = Signer::ed();
    let publisher = Publisher::start([Answer::Keys(vec![signer.jwk("k")])]).await;
    let (verifier, token) = (publisher.verifier(), signer.token_of("k", ann()));
    for now in [NOW, NOW + 1, NOW + HOUR - 1] {
        assert!(user(&verifier, &token, now).await.is_ok());
    }
    assert_eq!(publisher.hits(), 1);
    assert!(user(&verifier, &token, NOW + HOUR).await.is_ok());
    assert_eq!(publisher.hits(), 2);
}

#[tokio::test]
async fn a_rotated_set_is_picked_up_and_the_revoked_key_goes() {
    let (old, new) = (Signer::ed(), Signer::ed());
    let publisher = Publisher::start([Answer::Keys(vec![old.jwk("old")])]).await;
    let verifier = publisher.verifier();
    assert!(user(&verifier, &old.token_of("old", ann()), NOW).await.is_ok());
    publisher.says(Answer::Keys(vec![new.jwk("new")]));
    assert!(user(&verifier, &new.token_of("new", ann()), LATER).await.is_ok());
    user(&verifier, &old.token_of("old", ann()), LATER).await.unwrap_err();
    assert_eq!(publisher.hits(), 2);
}

#[tokio::test]
async fn a_revoked_key_is_refused_after_an_hour_even_if_nobody_asked_for_another() {
    let signer = Signer::ed();
    let publisher = Publisher::start([Answer::Keys(vec![signer.jwk("k")])]).await;
    let (verifier, token) = (publisher.verifier(), signer.token_of("k", ann()));
    assert!(user(&verifier, &token, NOW).await.is_ok());
    publisher.says(Answer::Keys(vec![]));
    assert!(user(&verifier, &token, NOW + HOUR - 1).await.is_ok());
    user(&verifier, &token, NOW + HOUR).await.unwrap_err();
}

#[tokio::test]
async fn unknown_kids_cannot_be_used_to_hammer_the_publisher() {
    let signer = Signer::ed();
    let publisher = Publisher::start([Answer::Keys(vec![signer.jwk("k")])]).await;
    let verifier = publisher.verifier();
    for i in 0..100 {
        user(&verifier, &signer.token_of(&format!("random{i}"), ann()), NOW).await.unwrap_err();
    }
    assert_eq!(publisher.hits(), 1);
    assert!(user(&verifier, &signer.token_of("k", ann()), NOW).await.is_ok());
    user(&verifier, &signer.token_of("random", ann()), LATER).await.unwrap_err();
    assert_eq!(publisher.hits(), 2);
}

#[tokio::test]
async fn those_who_need_the_same_set_share_one_fetch() {
    let signer = Signer::ed();
    let publisher = Publisher::start([Answer::Keys(vec![signer.jwk("k")])]).await;
    let (verifier, token) = (publisher.verifier(), signer.token_of("k", ann()));
    let all = (0..50).map(|_| user(&verifier, &token, NOW));
    for outcome in futures_util::future::join_all(all).await {
        assert!(outcome.is_ok());
    }
    assert_eq!(publisher.hits(), 1);
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_take_the_fetch_along() {
    let signer = Signer::ed();
    let publisher = Publisher::start([Answer::Keys(vec![signer.jwk("k")])]).await;
    let (verifier, token) = (publisher.verifier(), signer.token_of("k", ann()));
    let mut impatient = Box::pin(user(&verifier, &token, NOW));
    assert!(futures_util::poll!(&mut impatient).is_pending());
    drop(impatient);
    assert!(user(&verifier, &token, NOW).await.is_ok());
    assert_eq!(publisher.hits(), 1);
}

#[tokio::test]
async fn a_failed_try_is_repeated_once() {
    let signer = Signer::ed();
    let keys = Answer::Keys(vec![signer.jwk("k")]);
    let publisher = Publisher::start([Answer::Status(500), keys]).await;
    assert!(user(&publisher.verifier(), &signer.token_of("k", ann()), NOW).await.is_ok());
    assert_eq!(publisher.hits(), 2);
}

#[tokio::test]
async fn a_publisher_in_trouble_is_left_alone_for_a_while() {
    let signer = Signer::ed();
    let publisher = Publisher::start([Answer::Status(503)]).await;
    let (verifier, token) = (publisher.verifier(), signer.token_of("k", ann()));
    for _ in 0..10 {
        let outcome = user(&verifier, &token, NOW).await;
        assert!(matches!(outcome, Err(TokenError::Invalid(_))), "{outcome:?}");
    }
    assert_eq!(publisher.hits(), TRIES);
    publisher.says(Answer::Keys(vec![signer.jwk("k")]));
    assert!(user(&verifier, &token, NOW + PAUSE_AFTER_FAILURE as i64).await.is_ok());
}

#[tokio::test]
async fn known_keys_outlive_a_failed_fetch_for_another() {
    let signer = Signer::ed();
    let publisher = Publisher::start([Answer::Keys(vec![signer.jwk("k")])]).await;
    let (verifier, token) = (publisher.verifier(), signer.token_of("k", ann()));
    assert!(user(&verifier, &token, NOW).await.is_ok());
    publisher.says(Answer::Status(500));
    user(&verifier, &signer.token_of("other", ann()), LATER).await.unwrap_err();
    assert!(user(&verifier, &token, LATER).await.is_ok());
}

#[tokio::test]
async fn a_slow_publisher_is_given_up() {
    let publisher = Publisher::start([Answer::Silence]).await;
    let sets = KeySets::with_timeout(false, Duration::from_millis(20)).unwrap();
    sets.key(&publisher.url, "k", NOW).await.unwrap_err();
    assert_eq!(publisher.hits(), TRIES);
}

#[tokio::test]
async fn a_huge_or_senseless_body_is_no_key_set() {
    let signer = Signer::ed();
    let huge = json!({"keys": [signer.jwk("k")], "pad": "x".repeat(MAX_BODY)}).to_string();
    for body in [huge, "<html>".into(), "{}".into(), String::new()] {
        let publisher = Publisher::start([Answer::Text(body)]).await;
        user(&publisher.verifier(), &signer.token_of("k", ann()), NOW).await.unwrap_err();
        assert_eq!(publisher.hits(), TRIES);
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let signer = Signer::ed();
    let elsewhere = Publisher::start([Answer::Keys(vec![signer.jwk("k")])]).await;
    let publisher = Publisher::start([Answer::Redirect(elsewhere.url.clone())]).await;
    user(&publisher.verifier(), &signer.token_of("k", ann()), NOW).await.unwrap_err();
    assert_eq!(elsewhere.hits(), 0);
}

#[tokio::test]
async fn each_address_of_a_template_has_its_own_keys() {
    let signer = Signer::ed();
    let publisher = Publisher::start([Answer::Keys(vec![signer.jwk("k")])]).await;
    let settings = TokenSettings {
        jwks_public_endpoint: format!("{}/{{{{tenant}}}}/keys", publisher.url),
        issuer_regex: "^https://(?P<tenant>acme|globex)$".into(),
        ..TokenSettings::default()
    };
    let verifier = TokenVerifier::new(settings).unwrap();
    let token = |issuer: &str| signer.token_of("k", json!({"sub": "ann", "iss": issuer}));
    for issuer in ["https://acme", "https://globex", "https://acme"] {
        assert!(user(&verifier, &token(issuer), NOW).await.is_ok());
    }
    user(&verifier, &token("https://evil"), NOW).await.unwrap_err();
    assert_eq!(*publisher.paths.lock(), ["/acme/keys", "/globex/keys"]);
}

#[tokio::test]
async fn tokens_that_make_up_addresses_do_not_fill_memory() {
    let publisher = Publisher::start([Answer::Keys(vec![])]).await;
    let sets = KeySets::new(false).unwrap();
    for i in 0..MAX_SETS + 20 {
        sets.key(&format!("{}/{i}", publisher.url), "k", NOW + i as i64).await.err().unwrap();
    }
    assert_eq!(sets.sets.lock().len(), MAX_SETS);
}
