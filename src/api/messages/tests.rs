//! What requests may look like, and what results do look like.

use super::*;

fn read<'a, T: Deserialize<'a>>(json: &'a str) -> T {
    serde_json::from_str(json).expect(json)
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("json")
}

#[test]
fn null_is_the_zero_value_of_every_field() {
    let publish: PublishRequest = read(
        r#"{"channel":null,"b64data":null,"skip_history":null,"tags":{"a":null},
            "idempotency_key":null,"delta":null,"version":null,"version_epoch":null,
            "archive_ack":null}"#,
    );
    assert_eq!((publish.channel.as_str(), publish.version), ("", 0));
    assert_eq!(publish.tags, BTreeMap::from([("a".to_owned(), String::new())]));
    let broadcast: BroadcastRequest = read(r#"{"channels":["a",null],"tags":null}"#);
    assert_eq!(broadcast.channels, ["a", ""]);
    let subscribe: SubscribeRequest = read(
        r#"{"channel":"a","user":null,"expire_at":null,"info":null,"b64info":null,"client":null,
            "data":null,"b64data":null,"recover_since":null,"override":null,"session":null}"#,
    );
    assert!(subscribe.recover_since.is_none() && subscribe.info.is_empty());
    let history: HistoryRequest = read(r#"{"limit":null,"since":{"epoch":null},"reverse":null}"#);
    assert_eq!(history.since, Some(StreamPosition::default()));
    let disconnect: DisconnectRequest = read(r#"{"disconnect":null,"whitelist":null}"#);
    assert!(disconnect.disconnect.is_none() && disconnect.whitelist.is_empty());
    let refresh: RefreshRequest = read(r#"{"user":null,"expired":null,"info":null}"#);
    assert!(refresh.info.is_empty());
}

#[test]
fn data_stays_in_the_bytes_it_was_written_in() {
    for data in [r#"{"b" : 1.0, "a":"\u0041"}"#, "null", "12345678901234567890.0", r#"" ""#] {
        let publish: PublishRequest = read(&format!(r#"{{"data": {data} ,"channel":"a"}}"#));
        assert_eq!(publish.data, data);
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let publish: PublishRequest = read(&format!(r#"{{"data":{deep}}}"#));
    assert_eq!(publish.data.len(), 200_000);
}

#[test]
fn fields_of_other_editions_are_ignored() {
    let subscribe: SubscribeRequest =
        read(r#"{"channel":"a","all_users":true,"label_filter":{"x":[1]},"later":null}"#);
    assert_eq!(subscribe.channel, "a");
}

#[test]
fn an_override_tells_false_from_absent() {
    let subscribe: SubscribeRequest = read(
        r#"{"override":{"presence":{"value":true},"join_leave":{"value":false},
            "force_recovery":{},"force_positioning":null}}"#,
    );
    let overrides = OptionOverride::from(subscribe.overrides);
    assert_eq!(
        overrides,
        OptionOverride {
            presence: Some(true),
            join_leave: Some(false),
            force_recovery: Some(false),
            force_positioning: None,
            force_push_join_leave: None,
        }
    );
}

#[test]
fn zero_values_are_left_out() {
    assert_eq!(text(&PublishResult::default()), "{}");
    assert_eq!(
        text(&PublishResult { offset: 1, epoch: "e".into() }),
        r#"{"offset":1,"epoch":"e"}"#
    );
    assert_eq!(text(&Done {}), "{}");
    assert_eq!(text(&RpcResult::default()), "{}");
    let broadcast = BroadcastResult {
        responses: vec![
            PublishResponse::Result(PublishResult::default()),
            PublishResponse::Error(ApiError::bad_request("why")),
        ],
    };
    assert_eq!(
        text(&broadcast),
        r#"{"responses":[{"result":{}},{"error":{"code":107,"message":"bad request"}}]}"#
    );
    let publication = Publication { data: "{}".into(), offset: 3, ..Publication::default() };
    let history = HistoryResult { publications: vec![publication], ..HistoryResult::default() };
    assert_eq!(
        text(&history),
        r#"{"publications":[{"data":{},"offset":3}],"epoch":"","offset":0}"#
    );
}

#[test]
fn what_callers_count_on_is_there_even_if_zero() {
    assert_eq!(text(&HistoryResult::default()), r#"{"publications":[],"epoch":"","offset":0}"#);
    assert_eq!(text(&PresenceResult::default()), r#"{"presence":{}}"#);
    let anonymous =
        PresenceResult { presence: BTreeMap::from([("id".to_owned(), ClientInfo::default())]) };
    assert_eq!(text(&anonymous), r#"{"presence":{"id":{"user":"","client":""}}}"#);
    assert_eq!(text(&PresenceStatsResult::default()), r#"{"num_clients":0,"num_users":0}"#);
    assert_eq!(text(&ChannelsResult::default()), r#"{"channels":{}}"#);
    assert_eq!(text(&ChannelResult::default()), r#"{"num_clients":0}"#);
    assert_eq!(
        text(&NodeResult::default()),
        r#"{"uid":"","name":"","version":"","num_clients":0,"num_users":0,"num_subs":0,"num_channels":0}"#
    );
}
