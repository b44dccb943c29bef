//! A whole channel as lines of JSON, from the oldest message to the newest.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use hyper::header::{CONTENT_TYPE, HeaderValue};

use super::place::Place;
use super::problem::Problem;
use super::shapes::MessageShape;
use super::shown::Shown;
use super::{Parts, access};
use crate::archive::{Anchor, MessageId, Order, PageQuery, SharedStore};

/// Messages that are read at once. One page is in memory at a time, whatever the channel holds.
const PART: usize = 200;

/// Marks a response whose body is to be passed on as it is made.
#[derive(Clone, Copy)]
pub struct Streamed;

/// Streams all messages of a channel, one JSON object a line. A failure on the way breaks the
/// connection off, so that a part is never taken for the whole.
#[utoipa::path(get, path = "/v1/channels/{channel}/export", tag = "messages",
    params(("channel" = String, Path)),
    responses((status = 200, content_type = "application/x-ndjson", body = MessageShape),
        (status = "default", body = Problem)))]
pub async fn export(
    State(parts): State<Arc<Parts>>,
    Place(channel): Place<String>,
    request: Request,
) -> Result<Response, Problem> {
    access::reader(&parts, &request.into_parts().0, &channel).await?;
    let store = Arc::clone(&parts.store);
    // Up to what is there now, or a busy channel would never end.
    let end = Shown::of(&parts, &channel).await?.end;
    let state = (store, channel, None::<MessageId>, end);
    let lines = stream::try_unfold(state, async |(store, channel, after, end)| {
        let Some((text, edge)) = lines(&store, &channel, after, end).await? else {
            return Ok(None);
        };
        Ok::<_, io::Error>(Some((text, (store, channel, Some(edge), end))))
    });
    let mut response = Response::new(Body::from_stream(lines));
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.extensions_mut().insert(Streamed);
    Ok(response)
}

/// The lines behind `after`, with the id of the last of them; none when there are no more.
async fn lines(
    store: &SharedStore,
    channel: &str,
    after: Option<MessageId>,
    end: MessageId,
) -> io::Result<Option<(Bytes, MessageId)>> {
    let query = PageQuery {
        after: after.map(Anchor::Id),
        before: Some(Anchor::Id(end)),
        order: Order::OldestFirst,
        limit: PART,
    };
    let page = store.page(channel, &query).await.map_err(io::Error::other)?;
    let Some(edge) = page.messages.last().map(|message| message.id) else { return Ok(None) };
    let mut text = Vec::new();
    for shape in MessageShape::chain(channel, &page.messages, page.prev) {
        serde_json::to_writer(&mut text, &shape)?;
        text.push(b'\n');
    }
    Ok(Some((text.into(), edge)))
}
