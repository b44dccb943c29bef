//! One table for each decision; a row is a rule and the case next to it.

use std::time::Duration;

use super::*;
use crate::channel::Namespaces;
use crate::config::{ChannelConfig, ChannelOptions};

const USER: Actor<'_> = Actor { user: "42", insecure: false, subscribed: false };
const SUBSCRIBER: Actor<'_> = Actor { subscribed: true, ..USER };
const ANONYMOUS: Actor<'_> = Actor { user: "", ..USER };
const ANONYMOUS_SUBSCRIBER: Actor<'_> = Actor { subscribed: true, ..ANONYMOUS };
const INSECURE: Actor<'_> = Actor { insecure: true, ..ANONYMOUS };

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
fn subscribe_without_a_token() {
    let nothing = ChannelOptions::default;
    let only_anonymous = || options(|o| o.allow_subscribe_for_anonymous = true);
    let not_available = Err(Refusal::NotAvailable);
    // options, channel, actor, decision
    let rows = [
        // private channels, even for the insecure
        (for_all(), "$news", USER, Err(DENIED)),
        (for_all(), "$news", INSECURE, Err(DENIED)),
        (limited(), "$news#42", USER, Err(DENIED)),
        // channels limited to users
        (limited(), "news#42", USER, Ok(())),
        (limited(), "news#1,42", USER, Ok(())),
        (limited(), "news#1", USER, Err(DENIED)),
        (limited(), "news#", ANONYMOUS, Err(DENIED)),
        (limited(), "news#1,", ANONYMOUS, Err(DENIED)),
        (limited(), "news", USER, Ok(())),
        (for_all(), "news#1", USER, Ok(())),
        (nothing(), "news#42", USER, Err(DENIED)),
        // proxies, of which there are none
        (proxied(), "news", USER, not_available),
        (proxied(), "news", INSECURE, not_available),
        (proxied(), "news#42", USER, Ok(())),
        (proxied(), "news#1", USER, Err(DENIED)),
        (stream_proxied(), "news", USER, not_available),
        (stream_proxied(), "news#1", USER, Err(DENIED)),
        // options
        (for_clients(), "news", USER, Ok(())),
        (for_clients(), "news", ANONYMOUS, Err(DENIED)),
        (for_all(), "news", ANONYMOUS, Ok(())),
        (only_anonymous(), "news", ANONYMOUS, Err(DENIED)),
        // the insecure
        (nothing(), "news", INSECURE, Ok(())),
        (limited(), "news#1", INSECURE, Ok(())),
        // nobody else
        (nothing(), "news", USER, Err(DENIED)),
    ];
    for (row, (options, channel, actor, expected)) in rows.into_iter().enumerate() {
        let namespaces = namespaces(options);
        let rules = namespaces.resolve(channel).expect("known");
        let decision = subscribe(&namespaces, channel, &rules, &actor);
        assert_eq!(decision, expected, "row {row}: {channel} {actor:?}");
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
    for (row, (options, channel, actor, expected)) in rows.into_iter().enumerate() {
        let namespaces = namespaces(options);
        let rules = namespaces.resolve(channel).expect("known");
        let granted = wish(&namespaces, channel, &rules, &actor);
        assert_eq!(granted, expected, "row {row}: {channel} {actor:?}");
    }
}

type Operation = fn(&ChannelRules, &Actor<'_>) -> Result<(), Refusal>;

/// Sets the options of an operation: for client, for subscriber, for anonymous.
type SetRights = fn(&mut ChannelOptions, bool, bool, bool);

#[test]
fn operations_are_for_clients_subscribers_and_the_anonymous_as_the_options_say() {
    let operations: [(&str, Operation, SetRights); 3] = [
        ("publish", publish, |o, client, sub, anonymous| {
            o.allow_publish_for_client = client;
            o.allow_publish_for_subscriber = sub;
            o.allow_publish_for_anonymous = anonymous;
        }),
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
    // for client, for subscriber, for anonymous, actor, allowed
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
        for (row, (client, subscriber, anonymous, actor, allowed)) in rows.into_iter().enumerate() {
            let namespaces = namespaces(options(|o| {
                o.presence = true;
                o.history_size = 1;
                o.history_ttl = Duration::from_secs(1);
                set_rights(o, client, subscriber, anonymous);
            }));
            let rules = namespaces.resolve("news").expect("known");
            let expected = if allowed { Ok(()) } else { Err(DENIED) };
            assert_eq!(operation(&rules, &actor), expected, "{name} row {row}");
        }
    }
}

#[test]
fn what_is_off_is_not_available_even_to_the_insecure() {
    let namespaces = namespaces(ChannelOptions::default());
    let rules = namespaces.resolve("news").expect("known");
    assert_eq!(presence(&rules, &INSECURE), Err(Refusal::NotAvailable));
    assert_eq!(history(&rules, &INSECURE), Err(Refusal::NotAvailable));
}

#[test]
fn what_a_proxy_would_decide_nobody_may_publish() {
    for options in [
        options(|o| o.publish_proxy_enabled = true),
        options(|o| o.subscribe_stream_proxy_enabled = true),
    ] {
        let rules = namespaces(options).resolve("news").expect("known");
        assert_eq!(publish(&rules, &INSECURE), Err(Refusal::NotAvailable));
    }
}
