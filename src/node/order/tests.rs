//! Orders as other nodes are told and as they tell.

use super::*;
use crate::config::{ChannelConfig, ChannelOptions};

fn selection() -> Selection {
    Selection {
        user: "ann".into(),
        all_users: false,
        client: "c1".into(),
        session: "s1".into(),
        except: Vec::new(),
    }
}

fn orders() -> Vec<Order> {
    let overrides = OptionOverride {
        presence: Some(true),
        join_leave: Some(false),
        force_push_join_leave: Some(true),
        force_recovery: Some(false),
        force_positioning: Some(true),
    };
    let subscribe = UserSubscribe {
        expire_at: Some(7),
        info: "1".into(),
        data: "2".into(),
        recover_since: Some(StreamPosition { offset: 3, epoch: "e".into() }),
        overrides,
    };
    let until = UserRefresh::Until { expire_at: Some(9), info: Some("3".into()) };
    let for_ever = UserRefresh::Until { expire_at: None, info: None };
    let channel = || Channel::from("chat:a");
    let of = |deed| Order { selection: selection(), deed };
    let except = vec!["c2".to_owned()];
    let spared = Selection { except, ..selection() };
    let everyone = Selection { all_users: true, ..Selection::default() };
    vec![
        of(Deed::Subscribe(channel(), subscribe)),
        of(Deed::Unsubscribe(Some(channel()), UnsubscribeCode::SERVER)),
        of(Deed::Unsubscribe(None, UnsubscribeCode::EXPIRED)),
        Order {
            selection: spared,
            deed: Deed::Disconnect(codes::Disconnect::custom(4_500, "closed")),
        },
        Order { selection: everyone, deed: Deed::Disconnect(codes::Disconnect::FORCE_RECONNECT) },
        of(Deed::Refresh(until)),
        of(Deed::Refresh(for_ever)),
        of(Deed::Refresh(UserRefresh::Expired)),
    ]
}

#[test]
fn an_order_means_the_same_on_every_node() {
    for order in orders() {
        assert_eq!(Order::of_content(Content::from(&order)), Some(order));
    }
}

#[test]
fn a_condition_on_labels_selects_nobody() {
    for order in orders() {
        let mut content = Content::from(&order);
        let filter = match &mut content {
            Content::Subscribe(subscribe) => &mut subscribe.label_filter,
            Content::Unsubscribe(unsubscribe) => &mut unsubscribe.label_filter,
            Content::Disconnect(disconnect) => &mut disconnect.label_filter,
            Content::Refresh(refresh) => &mut refresh.label_filter,
            other => panic!("{other:?}"),
        };
        *filter = Some(Bytes::new());
        assert_eq!(Order::of_content(content), None, "{order:?}");
    }
}

#[test]
fn no_order_closes_a_socket_with_a_code_or_a_reason_that_cannot_be_sent() {
    let closes_with = |code, reason: &str, reconnect| {
        let reason = reason.to_owned();
        let disconnect = control::Disconnect { code, reason, reconnect, ..Default::default() };
        match Order::of_content(Content::Disconnect(disconnect)) {
            Some(Order { deed: Deed::Disconnect(disconnect), .. }) => disconnect,
            other => panic!("{other:?}"),
        }
    };
    for code in [0, 200, 2_999, 5_000, u32::MAX] {
        assert_eq!(closes_with(code, "x", false), codes::Disconnect::FORCE_DISCONNECT, "{code}");
        assert_eq!(closes_with(code, "x", true), codes::Disconnect::FORCE_RECONNECT, "{code}");
    }
    let long = "ö".repeat(100);
    assert_eq!(closes_with(4_000, &long, false).reason, "ö".repeat(61));
}

#[test]
fn an_unsubscribe_never_has_a_code_of_the_clients() {
    for (code, reason, expected) in [
        (0, "", UnsubscribeCode::SERVER),
        (1, "x", UnsubscribeCode::SERVER),
        (2_000, "bye", UnsubscribeCode { code: 2_000, reason: "bye".into() }),
    ] {
        let reason = reason.to_owned();
        let unsubscribe = control::Unsubscribe { code, reason, ..Default::default() };
        let order = Order::of_content(Content::Unsubscribe(unsubscribe)).expect("an order");
        assert_eq!(order.deed, Deed::Unsubscribe(None, expected));
    }
}

#[test]
fn what_a_namespace_grants_is_settled_before_others_are_told() {
    let with_history = ChannelOptions {
        presence: true,
        force_push_join_leave: true,
        force_recovery: true,
        history_size: 1,
        history_ttl: std::time::Duration::from_secs(1),
        ..ChannelOptions::default()
    };
    let without = ChannelOptions { history_size: 0, ..with_history.clone() };
    let granted = |options: &ChannelOptions, overrides| {
        let rules = ChannelRules::new(options, &ChannelConfig::default()).expect("valid");
        let asked = UserSubscribe { overrides, ..UserSubscribe::default() };
        asked.granted_by(&rules).overrides
    };
    let asked = OptionOverride { presence: Some(false), ..OptionOverride::default() };
    let expected = OptionOverride {
        presence: Some(false),
        join_leave: Some(false),
        force_push_join_leave: Some(false),
        force_recovery: Some(true),
        force_positioning: Some(false),
    };
    assert_eq!(granted(&with_history, asked), expected);
    assert_eq!(granted(&without, asked).force_recovery, Some(false));
}
