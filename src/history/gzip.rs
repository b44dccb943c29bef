//! Answers compressed for clients that take them so.

use std::borrow::Cow;
use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{Stream, StreamExt};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, ETAG, GetAll, HeaderMap, HeaderValue};

/// Bytes below which the header costs what the compression saves.
const WORTH_IT: usize = 860;

/// Whether any of the `Accept-Encoding` headers names gzip without refusing it.
pub fn accepted(headers: GetAll<'_, HeaderValue>) -> bool {
    let named = headers.iter().filter_map(|value| value.to_str().ok());
    named.flat_map(|value| value.split(',')).any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = quality.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && refused != Some(0.0)
    })
}

pub fn is_worth_it(body: &[u8]) -> bool {
    body.len() >= WORTH_IT
}

/// What the tag of a compressed answer ends with: it is not the plain answer, byte by byte.
const TAGGED: &str = "-gzip\"";

/// The tag of the plain answer that a tag belongs to.
pub fn plain_tag(tag: &str) -> Cow<'_, str> {
    match tag.strip_suffix(TAGGED) {
        Some(plain) => Cow::Owned(format!("{plain}\"")),
        None => Cow::Borrowed(tag),
    }
}

/// Says that the body is compressed, also in its tag.
pub fn mark(headers: &mut HeaderMap) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.remove(CONTENT_LENGTH);
    let tag = headers.get(ETAG).and_then(|tag| tag.to_str().ok());
    if let Some(plain) = tag.and_then(|tag| tag.strip_suffix('"'))
        && let Ok(tagged) = HeaderValue::from_str(&format!("{plain}{TAGGED}"))
    {
        headers.insert(ETAG, tagged);
    }
}

pub fn compress(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default().into()
}

/// Compresses a stream part by part; each is there as soon as it came.
pub fn compress_parts(
    parts: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let state = (Box::pin(parts), Some(encoder));
    futures_util::stream::unfold(state, |(mut parts, encoder)| async move {
        let mut encoder = encoder?;
        match parts.next().await {
            Some(Ok(part)) => {
                let done = encoder.write_all(&part).and_then(|()| encoder.flush());
                let made = done.map(|()| std::mem::take(encoder.get_mut()).into());
                Some((made, (parts, Some(encoder))))
            }
            Some(Err(error)) => Some((Err(error), (parts, None))),
            None => Some((encoder.finish().map(Bytes::from), (parts, None))),
        }
    })
}
