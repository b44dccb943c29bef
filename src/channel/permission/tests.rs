//! One table for each decision; a row is a rule and the case next to it.

use std::time::Duration;

use super::*;
use crate::channel::Namespaces;
use crate::config::channel::SubscriptionType;
use crate::config::{ChannelConfig, ChannelOptions};

const USER: Asker<'_> = Asker { user: "42", insecure: false, subscribed: false };
const SUBSCRIBER: Asker<'_> = Asker { subscribed: true, ..USER };
const ANONYMOUS: Asker<'_> = Asker { user: "", ..USER };
const ANONYMOUS_SUBSCRIBER: Asker<'_> = Asker { subscribed: true, ..ANONYMOUS };
const INSECURE: Asker<'_> = Asker { insecure: true, ..ANONYMOUS };

const DENIED: Refusal = Refusal::PermissionDenied;

fn namespaces(without_namespace: ChannelOptions) -> Namespaces {
    let config = ChannelConfig { without_namespace, ..ChannelConfig::default() };
    Namespaces::new(&config).expect("valid options")
}

fn options(change: impl FnOnce(&mut ChannelOptions)) -> ChannelOptions {
    let mut options = ChannelOptions::default();
    change(&mut options);
    options
}

fn for_clients() -> ChannelOptions {
    options(|o| o.allow_subscribe_for_client = true)
}

fn for_all() -> ChannelOptions {
    options(|o| {
        o.allow_subscribe_for_client = true;
        o.allow_subscribe_for_anonymous = true;
    })
}

fn limited() -> ChannelOptions {
    ChannelOptions { allow_user_limited_channels: true, ..for_all() }
}

fn proxied() -> ChannelOptions {
    ChannelOptions { subscribe_proxy_enabled: true, ..limited() }
}

fn stream_proxied() -> ChannelOptions {
    ChannelOptions { subscribe_stream_proxy_enabled: true, ..limited() }
}

#[test]
fn subscribe_decisions() {
    use SubscribeDecision::{Accept, Refuse, VerifyToken};
    let nothing = ChannelOptions::default;
    let only_anonymous = || options(|o| o.allow_subscribe_for_anonymous = true);
    let map = || ChannelOptions { subscription_type: SubscriptionType::Map, ..for_all() };
    let numbers = || ChannelOptions { channel_regex: "^[0-9]+$".into(), ..for_all() };
    let long = "x".repeat(256);
    // options, channel, asker, type, token, decision
    let rows = [
        // 1. the name, then the type
        (for_all(), "é", USER, 0, false, Refuse(Refusal::BadRequest)),
        (for_all(), "é", USER, 0, true, Refuse(Refusal::BadRequest)),
        (for_all(), long.as_str(), USER, 0, false, Refuse(Refusal::BadRequest)),
        (numbers(), "abc", INSECURE, 0, false, Refuse(Refusal::BadRequest)),
        (numbers(), "123", USER, 0, false, Accept),
        (for_all(), "news", USER, 1, false, Refuse(DENIED)),
        (for_all(), "news", USER, 1, true, Refuse(DENIED)),
        (for_all(), "news", USER, 4, false, Refuse(Refusal::NotAvailable)),
        (map(), "news", USER, 0, false, Refuse(DENIED)),
        // 2. private channels, even for the insecure
        (for_all(), "$news", USER, 0, false, Refuse(DENIED)),
        (for_all(), "$news", INSECURE, 0, false, Refuse(DENIED)),
        // 3. a token decides, whatever else would
        (nothing(), "$news", USER, 0, true, VerifyToken),
        (for_all(), "news", USER, 0, true, VerifyToken),
        (limited(), "news#1", USER, 0, true, VerifyToken),
        // 4. channels limited to users
        (limited(), "news#42", USER, 0, false, Accept),
        (limited(), "news#1,42", USER, 0, false, Accept),
        (limited(), "news#1", USER, 0, false, Refuse(DENIED)),
        (limited(), "news#", ANONYMOUS, 0, false, Refuse(DENIED)),
        (limited(), "news#1,", ANONYMOUS, 0, false, Refuse(DENIED)),
        (for_all(), "news#1", USER, 0, false, Accept),
        (nothing(), "news#42", USER, 0, false, Refuse(DENIED)),
        // 5., 6. proxies, of which there are none
        (proxied(), "news", USER, 0, false, Refuse(Refusal::NotAvailable)),
        (proxied(), "news", INSECURE, 0, false, Refuse(Refusal::NotAvailable)),
        (proxied(), "news#42", USER, 0, false, Accept),
        (proxied(), "news#1", USER, 0, false, Refuse(DENIED)),
        (stream_proxied(), "news", USER, 0, false, Refuse(Refusal::NotAvailable)),
        (stream_proxied(), "news#1", USER, 0, false, Refuse(DENIED)),
        // 7. options
        (for_clients(), "news", USER, 0, false, Accept),
        (for_clients(), "news", ANONYMOUS, 0, false, Refuse(DENIED)),
        (for_all(), "news", ANONYMOUS, 0, false, Accept),
        (only_anonymous(), "news", ANONYMOUS, 0, false, Refuse(DENIED)),
        // 8. the insecure
        (nothing(), "news", INSECURE, 0, false, Accept),
        (limited(), "news#1", INSECURE, 0, false, Accept),
        // 9. nobody else
        (nothing(), "news", USER, 0, false, Refuse(DENIED)),
    ];
    for (row, (options, channel, asker, kind, token, expected)) in rows.into_iter().enumerate() {
        let namespaces = namespaces(options);
        let resolved = namespaces.resolve(channel).expect("known");
        let decision = subscribe(&resolved, namespaces.rules(), &asker, kind, token);
        assert_eq!(decision, expected, "row {row}: {channel} {asker:?}");
    }
}

#[test]
fn connect_wishes() {
    let rows = [
        (for_clients(), "news", USER, true),
        (for_clients(), "news", ANONYMOUS, false),
        (for_all(), "news", ANONYMOUS, true),
        (options(|o| o.allow_subscribe_for_anonymous = true), "news", ANONYMOUS, false),
        (ChannelOptions::default(), "news", USER, false),
        (ChannelOptions::default(), "news", INSECURE, true),
        (for_all(), "$news", USER, false),
        (for_all(), "$news", INSECURE, false),
        (for_all(), "é", INSECURE, false),
        (proxied(), "news", USER, false),
        (proxied(), "news#42", USER, false),
        (stream_proxied(), "news", INSECURE, false),
        (limited(), "news#42", USER, true),
        (limited(), "news#1", USER, false),
        (limited(), "news#1", INSECURE, true),
        (limited(), "news#", ANONYMOUS, false),
    ];
    for (row, (options, channel, asker, expected)) in rows.into_iter().enumerate() {
        let namespaces = namespaces(options);
        let resolved = namespaces.resolve(channel).expect("known");
        let granted = grants_connect_wish(&resolved, namespaces.rules(), &asker);
        assert_eq!(granted, expected, "row {row}: {channel} {asker:?}");
    }
}

type Operation = fn(&Options, &Asker<'_>) -> Result<(), Refusal>;

/// Sets the options of an operation: for client, for subscriber, for anonymous.
type SetRights = fn(&mut ChannelOptions, bool, bool, bool);

#[test]
fn operations_are_for_clients_subscribers_and_the_anonymous_as_the_options_say() {
    let operations: [(&str, Operation, SetRights); 3] = [
        (
            "publish",
            |options, asker| publish(options, asker, b"{}"),
            |o, client, sub, anonymous| {
                o.allow_publish_for_client = client;
                o.allow_publish_for_subscriber = sub;
                o.allow_publish_for_anonymous = anonymous;
            },
        ),
        ("presence", presence, |o, client, sub, anonymous| {
            o.allow_presence_for_client = client;
            o.allow_presence_for_subscriber = sub;
            o.allow_presence_for_anonymous = anonymous;
        }),
        ("history", history, |o, client, sub, anonymous| {
            o.allow_history_for_client = client;
            o.allow_history_for_subscriber = sub;
            o.allow_history_for_anonymous = anonymous;
        }),
    ];
    // for client, for subscriber, for anonymous, asker, allowed
    let rows = [
        (false, false, false, SUBSCRIBER, false),
        (true, false, false, USER, true),
        (true, false, false, ANONYMOUS, false),
        (true, false, true, ANONYMOUS, true),
        (false, true, false, USER, false),
        (false, true, false, SUBSCRIBER, true),
        (false, true, false, ANONYMOUS_SUBSCRIBER, false),
        (false, true, true, ANONYMOUS_SUBSCRIBER, true),
        (false, true, true, ANONYMOUS, false),
        (false, false, true, ANONYMOUS_SUBSCRIBER, false),
        (false, false, false, INSECURE, true),
    ];
    for (name, operation, set_rights) in operations {
        for (row, (client, subscriber, anonymous, asker, allowed)) in rows.into_iter().enumerate() {
            let namespaces = namespaces(options(|o| {
                o.presence = true;
                o.history_size = 1;
                o.history_ttl = Duration::from_secs(1);
                set_rights(o, client, subscriber, anonymous);
            }));
            let resolved = namespaces.resolve("news").expect("known");
            let expected = if allowed { Ok(()) } else { Err(DENIED) };
            assert_eq!(operation(&resolved.options, &asker), expected, "{name} row {row}");
        }
    }
}

#[test]
fn what_is_off_is_not_available_even_to_the_insecure() {
    let namespaces = namespaces(ChannelOptions::default());
    let resolved = namespaces.resolve("news").expect("known");
    assert_eq!(presence(&resolved.options, &INSECURE), Err(Refusal::NotAvailable));
    assert_eq!(history(&resolved.options, &INSECURE), Err(Refusal::NotAvailable));
}

#[test]
fn publishing_checks_the_data_then_the_proxies_then_the_rights() {
    let check = |options: ChannelOptions, data: &[u8]| {
        let namespaces = namespaces(options);
        let resolved = namespaces.resolve("news").expect("known");
        publish(&resolved.options, &INSECURE, data)
    };
    let proxied = || options(|o| o.publish_proxy_enabled = true);
    let streamed = || options(|o| o.subscribe_stream_proxy_enabled = true);
    assert_eq!(check(proxied(), b""), Err(Refusal::BadRequest));
    assert_eq!(check(proxied(), b"{}"), Err(Refusal::NotAvailable));
    assert_eq!(check(streamed(), b"{}"), Err(Refusal::NotAvailable));
    assert_eq!(check(ChannelOptions::default(), b"{}"), Ok(()));
}

#[test]
fn data_formats() {
    use PublicationDataFormat::{Binary, Json, JsonObject, Unset};
    let rows: [(PublicationDataFormat, &[u8], bool); 17] = [
        (Unset, b"", false),
        (Unset, b"\xff", true),
        (Unset, b"{}", true),
        (Json, b"", false),
        (Json, b"1", true),
        (Json, b" [1, {}] ", true),
        (Json, b"{} {}", false),
        (Json, b"{", false),
        (Json, b"\xff", false),
        (Json, b"\"\xff\"", false),
        (JsonObject, b"", false),
        (JsonObject, b" \n{\"a\": 1}", true),
        (JsonObject, b"[1]", false),
        (JsonObject, b"{\"a\"}", false),
        (Binary, b"", true),
        (Binary, b"\xff", true),
        (Binary, b"{", true),
    ];
    for (format, data, fine) in rows {
        assert_eq!(check_data(format, data).is_ok(), fine, "{format:?} {data:?}");
    }
}
