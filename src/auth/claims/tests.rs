//! One test per claim rule.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn connect(payload: serde_json::Value) -> Result<ConnectClaims, String> {
    ConnectClaims::parse(payload.to_string().as_bytes(), "")
}

fn subscribe(payload: serde_json::Value) -> Result<SubscribeClaims, String> {
    SubscribeClaims::parse(payload.to_string().as_bytes(), "")
}

#[test]
fn a_token_without_claims_is_an_anonymous_user_who_never_expires() {
    assert_eq!(connect(json!({})), Ok(ConnectClaims::default()));
}

#[test]
fn null_claims_are_absent_claims() {
    let nulls = json!({
        "sub": null, "exp": null, "expire_at": null, "channel": null, "channels": null,
        "subs": null, "info": null, "b64info": null, "meta": null,
    });
    assert_eq!(connect(nulls), Ok(ConnectClaims::default()));
    let subs = connect(json!({"subs": {"news": null}})).unwrap().subs;
    assert_eq!(subs["news"], SubscribeOptionsClaim::default());
}

#[test]
fn expire_at_decides_over_exp_and_zero_is_never() {
    assert_eq!(connect(json!({"exp": 50})).unwrap().expire_at, Some(50));
    assert_eq!(connect(json!({"exp": 50, "expire_at": 9})).unwrap().expire_at, Some(9));
    assert_eq!(connect(json!({"exp": 50, "expire_at": 0})).unwrap().expire_at, None);
    let subscription = json!({"channel": "news", "exp": 50, "expire_at": 0});
    assert_eq!(subscribe(subscription).unwrap().expire_at, None);
}

#[test]
fn base64_claims_win_over_plain_ones() {
    let claims = subscribe(json!({
        "channel": "news", "info": 1, "b64info": "AP8=", "data": 2, "b64data": "aGk=",
    }));
    let claims = claims.unwrap();
    assert_eq!(claims.info, b"\x00\xff"[..]);
    assert_eq!(claims.data, b"hi"[..]);
}

#[test]
fn bad_base64_is_invalid() {
    for claim in ["b64info", "b64data"] {
        let reason = subscribe(json!({"channel": "news", claim: "aGk"})).unwrap_err();
        assert!(reason.contains(claim), "{reason}");
        connect(json!({"subs": {"news": {claim: "*"}}})).unwrap_err();
    }
    connect(json!({"b64info": "%%"})).unwrap_err();
}

#[test]
fn subs_win_over_channels() {
    let both = connect(json!({"channels": ["a"], "subs": {"b": {"data": {"x": 1}}}})).unwrap();
    assert!(both.channels.is_empty());
    assert_eq!(both.subs["b"].data, br#"{"x":1}"#[..]);
    let empty = connect(json!({"channels": ["a"], "subs": {}})).unwrap();
    assert_eq!(empty.channels, ["a"]);
}

#[test]
fn overrides_tell_false_from_absent() {
    let claims = subscribe(json!({
        "channel": "news",
        "override": {"presence": {"value": false}, "force_recovery": {"value": true}},
    }));
    let expected = OptionOverride {
        presence: Some(false),
        force_recovery: Some(true),
        ..OptionOverride::default()
    };
    assert_eq!(claims.unwrap().overrides, expected);
}

#[test]
fn a_connection_token_with_a_channel_claim_is_invalid() {
    connect(json!({"sub": "42", "channel": "news"})).unwrap_err();
}

#[test]
fn a_subscription_token_without_a_channel_is_invalid() {
    subscribe(json!({"sub": "42"})).unwrap_err();
    subscribe(json!({"sub": "42", "channel": ""})).unwrap_err();
}

#[test]
fn another_claim_can_hold_the_user_id() {
    let payload = json!({"sub": 5, "login": "ann"}).to_string();
    let user = |claim| ConnectClaims::parse(payload.as_bytes(), claim).map(|c| c.user);
    assert_eq!(user("login").as_deref(), Ok("ann"));
    assert_eq!(user("absent").as_deref(), Ok(""));
    user("").unwrap_err();
}

#[test]
fn pretty_printed_values_become_one_line() {
    let payload = b"{\"info\": {\n\"a\": \"x\\ny\"\r\n}}";
    let info = ConnectClaims::parse(payload, "").unwrap().info;
    assert!(!info.contains(&b'\n') && !info.contains(&b'\r'));
    let value: serde_json::Value = serde_json::from_slice(&info).unwrap();
    assert_eq!(value, json!({"a": "x\ny"}));
}

#[test]
fn dates_may_be_floats_negative_or_huge() {
    let exp = |text: &str| Validity::parse(format!("{{\"exp\":{text}}}").as_bytes());
    let seconds = |text| exp(text).unwrap().exp.unwrap().0;
    assert_eq!(seconds("1700000000.9"), 1_700_000_000);
    assert_eq!(seconds("-5"), -5);
    assert_eq!(seconds("1e300"), i64::MAX);
    assert_eq!(seconds("-1e300"), i64::MIN);
    assert_eq!(seconds("18446744073709551615"), i64::MAX);
    exp("\"5\"").unwrap_err();
}

#[test]
fn reasons_hold_no_value_of_the_token() {
    let reason = connect(json!({"channels": "swordfish"})).unwrap_err();
    assert!(!reason.contains("swordfish"), "{reason}");
}

proptest! {
    #[test]
    fn no_payload_makes_a_reader_panic(payload: Vec<u8>) {
        let _ = Validity::parse(&payload);
        let _ = ConnectClaims::parse(&payload, "login");
        let _ = SubscribeClaims::parse(&payload, "");
    }
}
