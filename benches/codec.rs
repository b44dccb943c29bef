//! The codec work for each command and each publication. `cargo bench --bench codec`.

use std::collections::BTreeMap;

use bobolink::protocol::command::{Command, ConnectRequest, PublishRequest, SubscribeRequest};
use bobolink::protocol::delta;
use bobolink::protocol::filter::FilterNode;
use bobolink::protocol::frame::Codec;
use bobolink::protocol::publication::Publication;
use bytes::Bytes;
use divan::Bencher;
use divan::counter::BytesCount;

const CODECS: [Codec; 2] = [Codec::Json, Codec::Protobuf];
/// Payload lengths: a chat message, a document.
const LENGTHS: [usize; 2] = [128, 4096];

fn main() {
    divan::main();
}

/// A JSON text of about `len` bytes; those of different `version` differ in a few places.
fn payload(len: usize, version: usize) -> Bytes {
    let mut text = format!("{{\"version\":{version},\"lines\":[");
    for line in 0.. {
        text += &format!("{{\"line\":{line},\"user\":\"user-{}\"}}", line * 7919 % 1000);
        if text.len() >= len {
            break;
        }
        text += ",";
    }
    text += &format!("],\"seen\":{}}}", version * 3);
    Bytes::from(text)
}

#[divan::bench(args = CODECS, consts = LENGTHS)]
fn encode_publication<const LEN: usize>(bencher: Bencher, codec: Codec) {
    let publication = Publication { data: payload(LEN, 1), offset: 5, ..Default::default() };
    bencher
        .counter(BytesCount::new(publication.data.len()))
        .bench(|| codec.encode_publication("chat:lobby", divan::black_box(&publication)));
}

#[divan::bench(args = CODECS)]
fn decode_connect_and_subscribe(bencher: Bencher, codec: Codec) {
    let connect =
        ConnectRequest { token: "x".repeat(200), name: "js".into(), ..Default::default() };
    let subscribe =
        SubscribeRequest { channel: "chat:lobby".into(), flag: 1, ..Default::default() };
    let commands = [
        Command { id: 1, connect: Some(connect), ..Default::default() },
        Command { id: 2, subscribe: Some(subscribe), ..Default::default() },
    ];
    decode(bencher, codec, &commands);
}

#[divan::bench(args = CODECS, consts = LENGTHS)]
fn decode_publish<const LEN: usize>(bencher: Bencher, codec: Codec) {
    let publish = PublishRequest {
        channel: "chat:lobby".into(),
        data: payload(LEN, 1),
        ..Default::default()
    };
    decode(bencher, codec, &[Command { id: 3, publish: Some(publish), ..Default::default() }]);
}

fn decode(bencher: Bencher, codec: Codec, commands: &[Command]) {
    let messages: Vec<Bytes> =
        commands.iter().map(|command| codec.encode_command(command).expect("encodes")).collect();
    let frame = codec.join(&messages);
    bencher.counter(BytesCount::new(frame.len())).bench(|| {
        for command in codec.commands(divan::black_box(frame.clone())) {
            divan::black_box(command.and_then(Command::request).expect("is a request"));
        }
    });
}

#[divan::bench(consts = LENGTHS)]
fn create_delta<const LEN: usize>(bencher: Bencher) {
    let (source, target) = (payload(LEN, 1), payload(LEN, 2));
    bencher
        .counter(BytesCount::new(target.len()))
        .bench(|| delta::create(divan::black_box(&source), divan::black_box(&target)));
}

#[divan::bench(args = CODECS, consts = LENGTHS)]
fn encode_delta_form<const LEN: usize>(bencher: Bencher, codec: Codec) {
    let (source, target) = (payload(LEN, 1), payload(LEN, 2));
    bencher
        .counter(BytesCount::new(target.len()))
        .bench(|| delta::encode_for(codec, Some(&source), divan::black_box(&target)));
}

#[divan::bench]
fn match_filter(bencher: Bencher) {
    let leaf = |key: &str, cmp: &str, val: &str| FilterNode {
        key: key.into(),
        cmp: cmp.into(),
        val: val.into(),
        ..Default::default()
    };
    let node = FilterNode {
        op: "and".into(),
        nodes: vec![leaf("lang", "eq", "de"), leaf("price", "gte", "99.50")],
        ..Default::default()
    };
    let filter = node.compile().expect("compiles");
    let tags = BTreeMap::from([("lang".into(), "de".into()), ("price".into(), "120".into())]);
    bencher.bench(|| filter.matches(divan::black_box(&tags)));
}
