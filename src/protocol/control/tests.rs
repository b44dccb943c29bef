//! The bytes on the wire, against messages that were written down by hand.

use proptest::prelude::*;

use super::*;

/// From tests/fixtures/control.txt, made from the field numbers: there was no Centrifugo at hand to
/// record from.
fn fixture(name: &str) -> Vec<u8> {
    let lines = include_str!("../../../tests/fixtures/control.txt").lines();
    let mut named = lines.filter_map(|line| line.split_once(' '));
    let (_, hex) = named.find(|(first, _)| *first == name).expect("a fixture");
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hex") as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn node() -> NodeInfo {
    let items = BTreeMap::from([("a.b".to_owned(), 1.5)]);
    NodeInfo {
        uid: "n1".into(),
        name: "host_8000".into(),
        version: "6.9.1".into(),
        num_clients: 300,
        num_users: 2,
        num_channels: 3,
        uptime: 120,
        metrics: Some(NodeMetrics { interval: 60.0, items }),
        num_subs: 5,
    }
}

fn subscribe() -> Subscribe {
    Subscribe {
        user: "ann".into(),
        channel: "chat:a".into(),
        emit_presence: true,
        emit_join_leave: true,
        expire_at: 2_000_000_000,
        position: true,
        recover: true,
        channel_info: "{}".into(),
        client: "c1".into(),
        data: "[1]".into(),
        recover_since: Some(StreamPosition { offset: 7, epoch: "ep".into() }),
        session: "s1".into(),
        push_join_leave: true,
        source: FROM_SERVER_API,
        label_filter: Some("\n\u{1}x".into()),
        all_users: true,
    }
}

fn unsubscribe() -> Unsubscribe {
    Unsubscribe {
        channel: "chat:a".into(),
        user: "ann".into(),
        client: "c1".into(),
        session: "s1".into(),
        code: 2_000,
        reason: "bye".into(),
        label_filter: Some("\n\u{1}x".into()),
        all_users: true,
    }
}

fn disconnect() -> Disconnect {
    Disconnect {
        user: "ann".into(),
        whitelist: vec!["c2".into(), "c3".into()],
        code: 4_500,
        reason: "closed".into(),
        reconnect: true,
        client: "c1".into(),
        session: "s1".into(),
        label_filter: Some("\n\u{1}x".into()),
        all_users: true,
    }
}

fn refresh() -> Refresh {
    Refresh {
        user: "ann".into(),
        client: "c1".into(),
        expired: true,
        expire_at: 2_000_000_000,
        info: "{}".into(),
        session: "s1".into(),
        label_filter: Some("\n\u{1}x".into()),
        all_users: true,
    }
}

#[test]
fn every_field_has_its_place_in_the_bytes() {
    let pattern = ChannelsRequest { pattern: "chat:*".into() }.encode_to_vec();
    let channels = BTreeMap::from([("chat:a".to_owned(), ChannelInfo { num_clients: 4 })]);
    let channels = ChannelsResult { channels }.encode_to_vec();
    let request = SurveyRequest { id: 300, op: CHANNELS.into(), data: pattern.into() };
    let response = SurveyResponse { id: 300, code: answer::BAD_REQUEST, data: channels.into() };
    for (name, content) in [
        ("node", Content::Node(node())),
        ("shutdown", Content::Shutdown),
        ("subscribe", Content::Subscribe(subscribe())),
        ("unsubscribe", Content::Unsubscribe(unsubscribe())),
        ("disconnect", Content::Disconnect(disconnect())),
        ("refresh", Content::Refresh(refresh())),
        ("survey_request", Content::SurveyRequest(request)),
        ("survey_response", Content::SurveyResponse(response)),
    ] {
        let command = Command::new("n1", content.clone());
        assert_eq!(command.to_bytes(), fixture(name), "{name}");
        let read = Command::decode(&fixture(name)[..]).expect(name);
        assert_eq!(
            (read.uid.clone().as_str(), read.into_content()),
            ("n1", Some(content)),
            "{name}"
        );
    }
}

#[test]
fn what_is_not_known_is_skipped() {
    for name in ["notification", "of_a_later_edition"] {
        let read = Command::decode(&fixture(name)[..]).expect(name);
        assert_eq!((read.uid.clone().as_str(), read.into_content()), ("n1", None), "{name}");
    }
    let read = Command::decode(&fixture("node_of_a_later_edition")[..]).expect("a message");
    let expected = NodeInfo { uid: "n1".into(), ..NodeInfo::default() };
    assert_eq!(read.into_content(), Some(Content::Node(expected)));
}

#[test]
fn of_several_contents_the_first_counts() {
    let mut command = Command::new("n1", Content::Disconnect(disconnect()));
    command.shutdown = Some(Shutdown {});
    assert_eq!(command.into_content(), Some(Content::Shutdown));
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(
        name in prop::sample::select(vec!["node", "subscribe", "disconnect", "survey_response"]),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = fixture(name);
        let place = place.index(bytes.len());
        bytes[place] = byte;
        bytes.truncate(end.index(bytes.len()) + 1);
        let _ = Command::decode(&bytes[..]).map(Command::into_content);
    }
}
