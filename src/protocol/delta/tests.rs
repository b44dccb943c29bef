//! Patches: inverse of each other, and readable by the decoder of the JavaScript client.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

/// Made with the npm packages fossil-delta 2.0 (`patch`) and checked with the decoder of centrifuge
/// 5 (`ours`, which our own encoder made). Binary texts are written one character a byte.
const VECTORS: &str = include_str!("vectors.json");

#[derive(Deserialize)]
struct Vector {
    name: String,
    source: String,
    target: String,
    patch: String,
    ours: String,
}

fn bytes(latin: &str) -> Vec<u8> {
    latin.chars().map(|char| u8::try_from(u32::from(char)).expect("one byte")).collect()
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(VECTORS).expect("vectors.json is readable")
}

#[test]
fn patches_of_the_reference_encoder_apply() {
    for vector in vectors() {
        let target = apply(&bytes(&vector.source), &bytes(&vector.patch));
        assert_eq!(target, Ok(bytes(&vector.target)), "{}", vector.name);
    }
}

#[test]
fn patches_stay_what_the_javascript_decoder_has_read() {
    for vector in vectors() {
        let patch = create(&bytes(&vector.source), &bytes(&vector.target));
        assert_eq!(patch, bytes(&vector.ours), "{}", vector.name);
    }
}

#[test]
fn a_small_change_makes_a_small_patch() {
    let source = br#"{"user":"anna","status":"online","position":{"x":1250,"y":87},"seq":1}"#;
    let target = br#"{"user":"anna","status":"online","position":{"x":1251,"y":87},"seq":2}"#;
    let patch = create(source, target);
    assert!(patch.len() < target.len() / 2, "{}", String::from_utf8_lossy(&patch));
}

#[test]
fn literals_do_not_cut_characters_in_two() {
    // Both euro signs begin with the same two bytes as the signs that take their place.
    let source = "a long common beginning \u{20ac} and a long common end \u{20ac}".as_bytes();
    let target = "a long common beginning \u{20ad} and a long common end \u{20ab}".as_bytes();
    assert!(String::from_utf8(create(source, target)).is_err());
    let patch = create_text(source, target).expect("is text");
    assert!(patch.len() < target.len());
    assert_eq!(apply(source, patch.as_bytes()), Ok(target.to_vec()));
}

#[test]
fn there_is_no_text_patch_of_what_is_not_text() {
    assert_eq!(create_text(b"\xff", b"text"), None);
    assert_eq!(create_text(b"text", b"\xff"), None);
}

#[test]
fn hostile_patches_are_refused() {
    let source = b"0123456789";
    let cases: [(&[u8], DeltaError); 13] = [
        (b"", DeltaError::Malformed),
        (b"\n", DeltaError::Malformed),
        (b"1", DeltaError::Malformed),
        (b"2\n2:ab", DeltaError::Malformed),
        (b"2\n9:ab", DeltaError::Malformed),
        (b"2\n2!ab", DeltaError::Malformed),
        (b"0\n0;0;", DeltaError::Malformed),
        (b"~~~~~~~\n", DeltaError::Malformed),
        (b"~~~~~\n", DeltaError::TooLong),
        (b"A\n2@9,", DeltaError::OutsideSource),
        (b"A\nA@0,A@0,0;", DeltaError::Length),
        (b"A\n1@0,0;", DeltaError::Length),
        (b"A\nA@0,0;", DeltaError::Checksum),
    ];
    for (patch, error) in cases {
        assert_eq!(apply(source, patch), Err(error), "{}", String::from_utf8_lossy(patch));
    }
}

#[test]
fn a_patch_cannot_ask_for_more_memory_than_the_target_may_have() {
    let source = vec![b'x'; 1 << 20];
    let mut patch = b"G000\n".to_vec();
    patch.extend(b"4000@0,".repeat(1_000));
    assert_eq!(apply(&source, &patch), Err(DeltaError::Length));
}

#[test]
fn when_the_work_is_used_up_the_rest_goes_as_a_literal() {
    let pieces: Vec<String> = (0..100).map(|n| format!("<piece number {n:04}>")).collect();
    let source = pieces.concat().into_bytes();
    let target = pieces.iter().rev().cloned().collect::<String>().into_bytes();
    assert!(create(&source, &target).len() < target.len());

    let mut patcher = Patcher::new(&source, &target, false);
    patcher.work = 100;
    let patch = patcher.patch();
    assert!(patch.len() > target.len() / 2);
    assert_eq!(apply(&source, &patch), Ok(target));
}

#[test]
fn near_repetitions_do_not_take_quadratic_work() {
    // Every window of the target stands everywhere in the source. Unbounded, this would compare
    // some 10^10 bytes.
    let source = vec![b'a'; 400_000];
    let target = [b"b".as_slice(), &[b'a'; 31]].concat().repeat(12_000);
    assert_eq!(apply(&source, &create(&source, &target)), Ok(target));
}

#[test]
fn protobuf_patches_are_raw_and_json_ones_strings() {
    let previous = Bytes::from_static(br#"{"text":"a rather long sentence","n":1}"#);
    let data = Bytes::from_static(br#"{"text":"a rather long sentence","n":2}"#);
    let raw = encode_for(Codec::Protobuf, Some(&previous), &data).expect("encodes");
    assert!(raw.delta);
    assert_eq!(apply(&previous, &raw.data), Ok(data.to_vec()));
    let text = encode_for(Codec::Json, Some(&previous), &data).expect("encodes");
    assert!(text.delta);
    let patch: String = serde_json::from_slice(&text.data).expect("is a JSON string");
    assert_eq!(apply(&previous, patch.as_bytes()), Ok(data.to_vec()));
}

#[test]
fn full_json_publications_are_strings_of_the_exact_bytes() {
    let data = Bytes::from_static(b"{ \"a\":\t1.50,\r\n\"b\":\"\\u00e9 \xc3\xa9\" }");
    let form = encode_for(Codec::Json, None, &data).expect("encodes");
    assert!(!form.delta);
    assert!(!form.data.contains(&b'\n'));
    let text: String = serde_json::from_slice(&form.data).expect("is a JSON string");
    assert_eq!(text.as_bytes(), data);
}

#[test]
fn a_patch_that_is_not_smaller_gives_way_to_the_full_data() {
    for codec in [Codec::Json, Codec::Protobuf] {
        for (previous, data) in [("", "1"), ("[1]", "[2]"), ("[1]", "[1]")] {
            let data = Bytes::from_static(data.as_bytes());
            let form = encode_for(codec, Some(previous.as_bytes()), &data).expect("encodes");
            assert_eq!(form, encode_for(codec, None, &data).expect("encodes"));
            assert!(!form.delta);
        }
    }
}

#[test]
fn invalid_json_fails_json_subscribers_only() {
    let (previous, data) = (b"\xff".as_slice(), Bytes::from_static(b"{"));
    assert_eq!(encode_for(Codec::Json, Some(previous), &data), Err(EncodeError));
    assert!(encode_for(Codec::Protobuf, Some(previous), &data).is_ok());
    let form = encode_for(Codec::Json, Some(previous), &Bytes::from_static(b"[]"));
    assert_eq!(form, Ok(DeltaForm { data: Bytes::from_static(b"\"[]\""), delta: false }));
}

#[test]
fn removals_without_data_stay_without_data() {
    let none = DeltaForm { data: Bytes::new(), delta: false };
    for codec in [Codec::Json, Codec::Protobuf] {
        assert_eq!(encode_for(codec, Some(b"{\"a\":1}"), &Bytes::new()), Ok(none.clone()));
    }
}

/// Texts that share stretches: both are put together from the same few pieces.
fn related_texts() -> impl Strategy<Value = (String, String)> {
    let piece = prop_oneof![
        "[a-c]{1,40}",
        "[\u{e9}\u{20ac}\u{20ad}\u{1f600}\u{1f601}]{1,12}",
        Just(String::from("{\"user\":\"J\u{fc}rgen\",\"text\":\"")),
        Just(String::from("\"},")),
    ];
    proptest::collection::vec(piece, 1..8).prop_flat_map(|pieces| {
        let pick = proptest::sample::select(pieces);
        let text = proptest::collection::vec(pick, 0..30).prop_map(|picked| picked.concat());
        (text.clone(), text)
    })
}

proptest! {
    #[test]
    fn applying_undoes_creating(source: Vec<u8>, target: Vec<u8>, at: prop::sample::Index) {
        prop_assert_eq!(apply(&source, &create(&source, &target)), Ok(target.clone()));
        let at = at.index(source.len() + 1);
        let edited = [&source[..at], &target[..], &source[at..]].concat();
        prop_assert_eq!(apply(&source, &create(&source, &edited)), Ok(edited.clone()));
        prop_assert_eq!(apply(&edited, &create(&edited, &source)), Ok(source));
    }

    #[test]
    fn text_patches_are_text_and_apply((source, target) in related_texts()) {
        let patch = create_text(source.as_bytes(), target.as_bytes()).expect("both are text");
        prop_assert_eq!(apply(source.as_bytes(), patch.as_bytes()), Ok(target.into_bytes()));
    }

    #[test]
    fn any_bytes_may_come_as_a_patch(source: Vec<u8>, patch: Vec<u8>) {
        let _ = apply(&source, &patch);
    }

    #[test]
    fn any_damage_to_a_patch_is_survived(
        (source, target) in related_texts(),
        at: prop::sample::Index,
        byte: u8,
    ) {
        let mut patch = create(source.as_bytes(), target.as_bytes());
        let at = at.index(patch.len());
        patch[at] = byte;
        let _ = apply(source.as_bytes(), &patch);
    }
}
