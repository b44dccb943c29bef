//! Whatever a client sends as a token, verification gives an answer: no panic, and no acceptance
//! of what was not signed.

#![no_main]

use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use bobolink::auth::{TokenSettings, TokenVerifier, unverified_payload};
use libfuzzer_sys::fuzz_target;

const NOW: i64 = 1_700_000_000;

static CHECKING: LazyLock<TokenVerifier> = LazyLock::new(|| verifier(false));
/// Gets past the signature, to the claims.
static TRUSTING: LazyLock<TokenVerifier> = LazyLock::new(|| verifier(true));

fuzz_target!(|token: &str| {
    assert!(finish(CHECKING.verify_connect(token, NOW)).is_err());
    assert!(finish(CHECKING.verify_subscribe(token, NOW)).is_err());
    let _ = finish(TRUSTING.verify_connect(token, NOW));
    let _ = finish(TRUSTING.verify_subscribe(token, NOW));
    let _ = unverified_payload(token);
});

fn verifier(insecure_skip_token_signature_verify: bool) -> TokenVerifier {
    let settings = TokenSettings {
        // Random, so that no input is signed with it.
        hmac_secret_key: "b6d1f5a09c3e4b27a8e0d4c7915f2e63".into(),
        insecure_skip_token_signature_verify,
        ..TokenSettings::default()
    };
    TokenVerifier::new(settings).expect("settings are good")
}

/// With keys from the settings nothing is waited for.
fn finish<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("verification waits without a key set"),
    }
}
