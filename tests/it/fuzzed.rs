//! What holds for any bytes a client may send: one function for each target in `fuzz/`.
//!
//! `cargo +nightly fuzz run <target>` searches for bytes that break them; the tests below run the
//! committed corpus and small changes of it with the stable compiler. To add a target: a function
//! here, a file in `fuzz/fuzz_targets/`, an entry in `fuzz/Cargo.toml`, a folder in `fuzz/corpus/`.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use bobolink::auth::{TokenSettings, TokenVerifier, unverified_payload};
use bobolink::channel::{Actor, Namespaces, permission};
use bobolink::config::{ChannelConfig, ChannelOptions, Namespace};
use bobolink::protocol::filter::FilterNode;
use bobolink::protocol::frame::Codec;
use bobolink::protocol::{delta, json};
use bobolink::websocket::Violation;
use bobolink::websocket::deflate::{MAX_WINDOW_BITS, MIN_WINDOW_BITS, negotiate};
use bobolink::websocket::frame::MAX_CONTROL;
use bobolink::websocket::receive::{Event, Limits, Receiver, Role};
use bytes::Bytes;

/// A frame of a JSON client: what can be read can be written, and comes out the same ever after.
pub fn json_commands(frame: &[u8]) {
    for command in Codec::Json.commands(Bytes::copy_from_slice(frame)).flatten() {
        let written = Codec::Json.encode_command(&command).expect("its payloads are JSON");
        let mut again = Codec::Json.commands(written.clone());
        let read = again.next().expect("has a command").expect("is readable");
        assert!(again.next().is_none(), "one command became several");
        assert_eq!(Codec::Json.encode_command(&read).expect("encodes"), written);
        let _ = command.request();
    }
}

/// A frame of a Protobuf client: what can be read is the same after writing.
pub fn protobuf_commands(frame: &[u8]) {
    for command in Codec::Protobuf.commands(Bytes::copy_from_slice(frame)).flatten() {
        let written = Codec::Protobuf.encode_command(&command).expect("encodes");
        let read: Vec<_> = Codec::Protobuf.commands(written).collect();
        assert_eq!(read, [Ok(command.clone())]);
        let _ = Codec::Json.encode_command(&command);
        let _ = command.request();
    }
}

/// The length of a source, the source, and a patch of it: the patch gives an error or a target, and
/// to that our own patch leads as well.
pub fn delta_apply(input: &[u8]) {
    let Some((len, rest)) = input.split_first() else { return };
    let (source, patch) = rest.split_at(usize::from(*len).min(rest.len()));
    let Ok(target) = delta::apply(source, patch) else { return };
    assert_eq!(delta::apply(source, &delta::create(source, &target)), Ok(target.clone()));
    if let Some(text) = delta::create_text(source, &target) {
        assert_eq!(delta::apply(source, text.as_bytes()), Ok(target));
    }
}

/// A line with a filter and a line with tags: a filter that compiles gives an answer, and its
/// negation the opposite one.
pub fn filter(input: &[u8]) {
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    let node = lines.next().and_then(|line| json::decode::<FilterNode>(line).ok());
    let Some(node) = node else { return };
    let tags = lines.next().and_then(|line| serde_json::from_slice(line).ok());
    let tags: BTreeMap<String, String> = tags.unwrap_or_default();
    let Ok(filter) = node.compile() else { return };
    let not = FilterNode { op: "not".into(), nodes: vec![node], ..Default::default() };
    // At the limits of depth and size there is no room for one node more.
    if let Ok(not) = not.compile() {
        assert_ne!(filter.matches(&tags), not.matches(&tags));
    }
}

/// A token of anyone's making: an answer, and no acceptance of what was not signed.
pub fn token(input: &[u8]) {
    /// Unix seconds.
    const NOW: i64 = 1_700_000_000;
    static CHECKING: LazyLock<TokenVerifier> = LazyLock::new(|| verifier(false));
    /// Gets past the signature, to the claims.
    static TRUSTING: LazyLock<TokenVerifier> = LazyLock::new(|| verifier(true));

    let token = &*String::from_utf8_lossy(input);
    assert!(at_once(CHECKING.verify_connect(token, NOW)).is_err());
    assert!(at_once(CHECKING.verify_subscribe(token, NOW)).is_err());
    let _ = at_once(TRUSTING.verify_connect(token, NOW));
    let _ = at_once(TRUSTING.verify_subscribe(token, NOW));
    let _ = unverified_payload(token);
}

/// A channel and a user: names have an answer, and an anonymous user is in no list.
pub fn channel(input: &[u8]) {
    static NAMESPACES: LazyLock<Namespaces> = LazyLock::new(|| {
        let options =
            ChannelOptions { allow_user_limited_channels: true, ..ChannelOptions::default() };
        let namespace = Namespace { name: "chat".into(), options: options.clone() };
        Namespaces::new(&ChannelConfig {
            without_namespace: options,
            namespaces: vec![namespace],
            ..ChannelConfig::default()
        })
        .expect("the configuration is good")
    });

    let text = String::from_utf8_lossy(input);
    let (channel, user) = text.split_once('\n').unwrap_or((&text, ""));
    let _ = NAMESPACES.check_name(channel);
    let Some(rules) = NAMESPACES.resolve(channel) else { return };
    let listed = |user| {
        let actor = Actor { user, subscribed: false, insecure: false };
        let granted = permission::subscribe(&NAMESPACES, channel, &rules, &actor).is_ok();
        assert!(!permission::wish(&NAMESPACES, channel, &rules, &actor) || granted);
        granted
    };
    assert!(!listed(""), "{channel:?} takes anyone in");
    assert!(!listed(user) || channel.contains(user));
}

fn verifier(insecure_skip_token_signature_verify: bool) -> TokenVerifier {
    TokenVerifier::new(TokenSettings {
        // Random, so that no input is signed with it.
        hmac_secret_key: "b6d1f5a09c3e4b27a8e0d4c7915f2e63".into(),
        insecure_skip_token_signature_verify,
        ..TokenSettings::default()
    })
    .expect("the settings are good")
}

/// With keys from the settings nothing is waited for.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("verification waits without a key set"),
    }
}

/// A byte of options, the length of a piece, and what a peer sends: read in pieces it gives what it
/// gives in one, and nothing above the limits.
pub fn websocket_frames(input: &[u8]) {
    let [options, piece, bytes @ ..] = input else { return };
    let role = if options & 1 == 0 { Role::Server } else { Role::Client };
    let deflate = negotiate(["permessage-deflate"].into_iter()).filter(|_| options & 2 == 0);
    let limits = Limits { message: 300, inflated: 1_000 };
    let new = || Receiver::new(role, limits, deflate);
    let whole = received(&mut new(), [bytes].into_iter());
    let pieces = received(&mut new(), bytes.chunks(usize::from(*piece).max(1)));
    assert_eq!(whole, pieces);
    for event in whole.0 {
        let (len, limit) = match event {
            Event::Text(payload) => {
                assert!(std::str::from_utf8(&payload).is_ok());
                (payload.len(), limits.inflated)
            }
            Event::Binary(payload) => (payload.len(), limits.inflated),
            Event::Ping(payload) | Event::Pong(payload) => (payload.len(), MAX_CONTROL),
            Event::Close(reason) => (reason.map_or(0, |it| it.reason.len() + 2), MAX_CONTROL),
        };
        assert!(len <= limit, "{len} bytes");
    }
}

fn received<'a>(
    receiver: &mut Receiver,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Event>, Option<Violation>) {
    let mut events = Vec::new();
    for mut piece in pieces {
        loop {
            match receiver.receive(&mut piece) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(violation) => return (events, Some(violation)),
            }
        }
    }
    (events, None)
}

/// The extensions that a client offers: what is agreed on is what the answer says.
pub fn websocket_extensions(header: &[u8]) {
    let header = String::from_utf8_lossy(header);
    let Some(agreed) = negotiate([&*header].into_iter()) else { return };
    assert!((MIN_WINDOW_BITS..=MAX_WINDOW_BITS).contains(&agreed.window_bits()));
    assert_eq!(negotiate([agreed.answer().as_str()].into_iter()), Some(agreed));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let files = std::fs::read_dir(&folder).expect("the corpus is there");
        let mut inputs: Vec<_> = files
            .map(|file| std::fs::read(file.expect("is listed").path()).expect("is readable"))
            .collect();
        assert!(!inputs.is_empty());
        inputs.sort();
        inputs
    }

    /// Inputs of the corpus with some bytes replaced, and two of them one after the other.
    fn near_corpus(target: &str) -> impl Strategy<Value = Vec<u8>> {
        let input = select(corpus(target));
        let changes = proptest::collection::vec((any::<Index>(), any::<u8>()), 0..6);
        (input.clone(), input, any::<bool>(), changes).prop_map(|(one, other, both, changes)| {
            let mut input = if both { [one, other].concat() } else { one };
            for (at, byte) in changes {
                let at = at.index(input.len().max(1));
                input.get_mut(at).into_iter().for_each(|old| *old = byte);
            }
            input
        })
    }

    macro_rules! corpus_tests {
        ($($target:ident)*) => {
            $(mod $target {
                use super::*;

                #[test]
                fn the_corpus_passes() {
                    corpus(stringify!($target)).iter().for_each(|input| super::super::$target(input));
                }

                proptest! {
                    #[test]
                    fn changes_of_the_corpus_pass(input in near_corpus(stringify!($target))) {
                        super::super::$target(&input);
                    }

                    #[test]
                    fn any_bytes_pass(input: Vec<u8>) {
                        super::super::$target(&input);
                    }
                }
            })*
        };
    }

    corpus_tests! {
        json_commands protobuf_commands delta_apply filter token channel websocket_frames
        websocket_extensions
    }
}
