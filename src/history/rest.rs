//! The endpoints, one handler each.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::response::Response;
use axum::routing::{delete, get};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::cursor::{self, Cursor, Direction};
use super::place::Place;
use super::problem::Problem;
use super::shapes::{
    ChannelShape, ChannelsShape, DeletedShape, MessageShape, PageShape, PositionShape,
};
use super::shown::Shown;
use super::{CopiesLeft, NotSettled, Parts, access, export, gzip, openapi};
use crate::archive::{Anchor, Deletion, Message, MessageId, Order, Page, PageQuery, Summary, Tail};
use crate::config::channel::ArchiveOverflow;

/// Messages of a page, unless asked otherwise.
const DEFAULT_LIMIT: usize = 50;
/// Most messages or channels of a page.
const MAX_LIMIT: usize = 100;

type Service = State<Arc<Parts>>;
type Answer = Result<Response, Problem>;
/// Wrapped, so that a refusal of the query is ours to word.
type Asked<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

/// All endpoints.
pub fn routes(parts: Arc<Parts>) -> Router {
    Router::new()
        .route("/openapi.json", get(openapi::describe))
        .route("/v1/channels", get(channels))
        .route("/v1/channels/{channel}", get(channel).delete(delete_channel))
        .route("/v1/channels/{channel}/messages", get(messages).delete(delete_range))
        .route("/v1/channels/{channel}/messages/{id}", delete(delete_message))
        .route("/v1/channels/{channel}/messages/around/{id}", get(around))
        .route("/v1/channels/{channel}/export", get(export::export))
        .fallback(nothing)
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(parts)
}

/// What is answered where there is nothing.
pub async fn nothing() -> Problem {
    Problem::not_found("there is no such path; see openapi.json")
}

/// Which messages to list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Listing {
    /// 1 to 100; 50 if not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, default = 50)]
    limit: Option<String>,
    /// `newest` (first, the default) or `oldest`.
    #[param(pattern = "^(newest|oldest)$")]
    order: Option<String>,
    /// From a page that came before; the other parameters must be the same.
    cursor: Option<String>,
    /// Only messages at lower offsets of `epoch`.
    #[param(value_type = Option<u64>)]
    before_offset: Option<String>,
    /// Only messages at higher offsets of `epoch`.
    #[param(value_type = Option<u64>)]
    after_offset: Option<String>,
    /// The epoch that offsets count in; the newest if not given.
    epoch: Option<String>,
    /// Only messages published before this moment, in unix milliseconds.
    #[param(value_type = Option<i64>)]
    before_time: Option<String>,
    /// Only messages published after it.
    #[param(value_type = Option<i64>)]
    after_time: Option<String>,
    /// Only messages before this one.
    before_id: Option<String>,
    /// Only messages after this one.
    after_id: Option<String>,
    /// The API key, where no header can be set.
    #[serde(rename = "api_key")]
    _api_key: Option<String>,
}

/// Lists a channel's messages.
#[utoipa::path(get, path = "/v1/channels/{channel}/messages", tag = "messages",
    params(("channel" = String, Path), Listing),
    responses((status = 200, body = PageShape, headers(("etag" = String))),
        (status = 304, description = "as `If-None-Match` has it"),
        (status = "default", body = Problem)))]
pub async fn messages(
    State(parts): Service,
    Place(channel): Place<String>,
    query: Asked<Listing>,
    request: Request,
) -> Answer {
    let head = request.into_parts().0;
    access::reader(&parts, &head, &channel).await?;
    let query = query.map_err(|error| Problem::unread_query(&error.body_text()))?.0;
    let (asked, way) = query.read()?;
    known_epoch(&parts, &channel, query.epoch.as_deref()).await?;
    let shown = Shown::of(&parts, &channel).await?;
    // Below what was shown before nothing is on its way.
    let page = match way.cursor.is_some() && asked.order == Order::NewestFirst {
        true => parts.store.page(&channel, &asked).await?,
        false => shown.page(&*parts.store, &channel, &asked).await?,
    };
    fresh(&head.headers, &page_shape(&channel, page, &asked, way, shown.position))
}

/// How many messages surround one.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Surroundings {
    /// 1 to 100, the message included; 50 if not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, default = 50)]
    limit: Option<String>,
    /// `newest` (first, the default) or `oldest`.
    #[param(pattern = "^(newest|oldest)$")]
    order: Option<String>,
    /// The API key, where no header can be set.
    #[serde(rename = "api_key")]
    _api_key: Option<String>,
}

/// Lists the messages around one, which is among them unless it was deleted.
#[utoipa::path(get, path = "/v1/channels/{channel}/messages/around/{id}", tag = "messages",
    params(("channel" = String, Path), ("id" = String, Path), Surroundings),
    responses((status = 200, body = PageShape, headers(("etag" = String))),
        (status = 304, description = "as `If-None-Match` has it"),
        (status = "default", body = Problem)))]
pub async fn around(
    State(parts): Service,
    Place((channel, id)): Place<(String, String)>,
    query: Asked<Surroundings>,
    request: Request,
) -> Answer {
    let head = request.into_parts().0;
    access::reader(&parts, &head, &channel).await?;
    let query = query.map_err(|error| Problem::unread_query(&error.body_text()))?.0;
    let (limit, order) = (limit(query.limit.as_deref())?, order(query.order.as_deref())?);
    let id = message_id(&id, "id")?;
    let half = limit / 2;
    let newer = PageQuery {
        after: Some(Anchor::Id(id)),
        before: None,
        order: Order::OldestFirst,
        limit: limit - half - 1,
    };
    // The message itself counts to the older ones, which begin with it.
    let just_behind = id.number().checked_add(1).and_then(MessageId::of);
    let older = PageQuery {
        after: None,
        before: just_behind.map(Anchor::Id),
        order: Order::NewestFirst,
        limit: half + 1,
    };
    let shown = Shown::of(&parts, &channel).await?;
    let newer = shown.page(&*parts.store, &channel, &newer).await?;
    let older = shown.page(&*parts.store, &channel, &older).await?;
    let (more, prev) = (older.more, older.prev);
    let mut messages: Vec<_> = newer.messages.into_iter().rev().chain(older.messages).collect();
    let more_newer = newer.more;
    if order == Order::OldestFirst {
        messages.reverse();
    }
    let more = if order == Order::NewestFirst { more } else { more_newer };
    let asked = PageQuery { after: None, before: None, order, limit };
    let page = Page { messages, more, prev };
    fresh(&head.headers, &page_shape(&channel, page, &asked, Way::first(order), shown.position))
}

/// What there is of a channel: count, first and last message.
#[utoipa::path(get, path = "/v1/channels/{channel}", tag = "channels",
    params(("channel" = String, Path)),
    responses((status = 200, body = ChannelShape, headers(("etag" = String))),
        (status = 304, description = "as `If-None-Match` has it"),
        (status = "default", body = Problem)))]
pub async fn channel(
    State(parts): Service,
    Place(channel): Place<String>,
    request: Request,
) -> Answer {
    let head = request.into_parts().0;
    access::reader(&parts, &head, &channel).await?;
    fresh(&head.headers, &summary(&parts, &channel).await?)
}

/// Which channels to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ChannelListing {
    /// Only channels whose name begins with this.
    #[serde(default)]
    prefix: String,
    /// From a page that came before.
    cursor: Option<String>,
    /// 1 to 100; 50 if not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, default = 50)]
    limit: Option<String>,
    /// The API key, where no header can be set.
    #[serde(rename = "api_key")]
    _api_key: Option<String>,
}

/// Lists channels in the order of their names, each with its last message. For backends.
#[utoipa::path(get, path = "/v1/channels", tag = "channels", params(ChannelListing),
    responses((status = 200, body = ChannelsShape, headers(("etag" = String))),
        (status = 304, description = "as `If-None-Match` has it"),
        (status = "default", body = Problem)))]
pub async fn channels(
    State(parts): Service,
    query: Asked<ChannelListing>,
    request: Request,
) -> Answer {
    let head = request.into_parts().0;
    access::backend(&parts, &head)?;
    let query = query.map_err(|error| Problem::unread_query(&error.body_text()))?.0;
    let limit = limit(query.limit.as_deref())?;
    let after = match query.cursor.as_deref() {
        None => None,
        Some(text) => Some(
            cursor::decode_name(text)
                .ok_or_else(|| Problem::bad("cursor", "not a cursor of a page of channels"))?,
        ),
    };
    let mut names = parts.store.channels(&query.prefix, after.as_deref(), limit + 1).await?;
    let more = names.len() > limit;
    names.truncate(limit);
    let next_cursor = names.last().filter(|_| more).map(|name| cursor::encode_name(name));
    let mut channels = Vec::with_capacity(names.len());
    for name in &names {
        channels.push(summary(&parts, name).await?);
    }
    fresh(&head.headers, &ChannelsShape { channels, next_cursor })
}

/// Deletes a message. For backends.
#[utoipa::path(delete, path = "/v1/channels/{channel}/messages/{id}", tag = "messages",
    params(("channel" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = DeletedShape), (status = "default", body = Problem)))]
pub async fn delete_message(
    State(parts): Service,
    Place((channel, id)): Place<(String, String)>,
    request: Request,
) -> Answer {
    access::deleter(&parts, &request.into_parts().0, &channel)?;
    let id = message_id(&id, "id")?;
    remove(&parts, &channel, Deletion::Message(id)).await
}

/// Which messages to delete.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OffsetRange {
    /// The first offset to delete.
    #[param(value_type = Option<u64>)]
    from_offset: Option<String>,
    /// The last one.
    #[param(value_type = Option<u64>)]
    to_offset: Option<String>,
    /// The epoch that they count in; the newest if not given.
    epoch: Option<String>,
    /// The API key, where no header can be set.
    #[serde(rename = "api_key")]
    _api_key: Option<String>,
}

/// Deletes the messages at a range of offsets. For backends.
#[utoipa::path(delete, path = "/v1/channels/{channel}/messages", tag = "messages",
    params(("channel" = String, Path), OffsetRange),
    responses((status = 200, body = DeletedShape), (status = "default", body = Problem)))]
pub async fn delete_range(
    State(parts): Service,
    Place(channel): Place<String>,
    query: Asked<OffsetRange>,
    request: Request,
) -> Answer {
    access::deleter(&parts, &request.into_parts().0, &channel)?;
    let query = query.map_err(|error| Problem::unread_query(&error.body_text()))?.0;
    let needed = |text: Option<String>, field| {
        let text = text.ok_or_else(|| Problem::bad(field, "must be given: an offset"))?;
        whole(&text, field)
    };
    let (from, to) =
        (needed(query.from_offset, "from_offset")?, needed(query.to_offset, "to_offset")?);
    if from > to {
        return Err(Problem::bad("to_offset", "must not be below from_offset"));
    }
    known_epoch(&parts, &channel, query.epoch.as_deref()).await?;
    let epoch = query.epoch.map(Into::into);
    remove(&parts, &channel, Deletion::Offsets { epoch, from, to }).await
}

/// Deletes all messages of a channel; its epoch and offsets go on. For backends.
#[utoipa::path(delete, path = "/v1/channels/{channel}", tag = "channels",
    params(("channel" = String, Path)),
    responses((status = 200, body = DeletedShape), (status = "default", body = Problem)))]
pub async fn delete_channel(
    State(parts): Service,
    Place(channel): Place<String>,
    request: Request,
) -> Answer {
    access::deleter(&parts, &request.into_parts().0, &channel)?;
    remove(&parts, &channel, Deletion::Channel).await
}

/// How a page was asked for: its order, and the cursor if there was one.
#[derive(Clone, Copy)]
pub struct Way {
    order: Order,
    cursor: Option<Cursor>,
}

impl Way {
    fn first(order: Order) -> Self {
        Self { order, cursor: None }
    }

    fn is_back(self) -> bool {
        self.cursor.is_some_and(|cursor| cursor.direction == Direction::Previous)
    }
}

impl Listing {
    /// The query for the store, in the order in which it has to read.
    fn read(&self) -> Result<(PageQuery, Way), Problem> {
        let listed = order(self.order.as_deref())?;
        if self.epoch.is_some() && self.before_offset.is_none() && self.after_offset.is_none() {
            return Err(Problem::bad(
                "epoch",
                "needs before_offset or after_offset, which count in it",
            ));
        }
        let mut query = PageQuery {
            after: self.anchor("after", [&self.after_offset, &self.after_time, &self.after_id])?,
            before: self
                .anchor("before", [&self.before_offset, &self.before_time, &self.before_id])?,
            order: listed,
            limit: limit(self.limit.as_deref())?,
        };
        let Some(text) = &self.cursor else { return Ok((query, Way::first(listed))) };
        let cursor = Cursor::decode(text)
            .filter(|cursor| cursor.order == listed)
            .ok_or_else(|| Problem::bad("cursor", "not a cursor of a page in this order"))?;
        if cursor.direction == Direction::Previous {
            query.order = match listed {
                Order::NewestFirst => Order::OldestFirst,
                Order::OldestFirst => Order::NewestFirst,
            };
        }
        // What was read lies between the bound and the edge, so the edge is the narrower one.
        match query.order {
            Order::NewestFirst => query.before = Some(Anchor::Id(cursor.edge)),
            Order::OldestFirst => query.after = Some(Anchor::Id(cursor.edge)),
        }
        Ok((query, Way { order: listed, cursor: Some(cursor) }))
    }

    fn anchor(
        &self,
        side: &'static str,
        [offset, time, id]: [&Option<String>; 3],
    ) -> Result<Option<Anchor>, Problem> {
        let fields = match side {
            "after" => ["after_offset", "after_time", "after_id"],
            _ => ["before_offset", "before_time", "before_id"],
        };
        Ok(match (offset, time, id) {
            (None, None, None) => None,
            (Some(offset), None, None) => {
                let epoch = self.epoch.as_deref().map(Into::into);
                Some(Anchor::Offset { epoch, offset: whole(offset, fields[0])? })
            }
            (None, Some(time), None) => {
                let time = time.parse().map_err(|_| {
                    Problem::bad(fields[1], "must be a whole number of unix milliseconds")
                })?;
                Some(Anchor::Time(time))
            }
            (None, None, Some(id)) => Some(Anchor::Id(message_id(id, fields[2])?)),
            _ => {
                let detail = format!("only one of {} may be given", fields.join(", "));
                return Err(Problem::bad(fields[2], detail));
            }
        })
    }
}

fn page_shape(
    channel: &str,
    page: Page,
    asked: &PageQuery,
    way: Way,
    position: PositionShape,
) -> PageShape {
    let Page { mut messages, more, prev } = page;
    if asked.order == Order::NewestFirst {
        messages.reverse();
    }
    let mut shapes = MessageShape::chain(channel, &messages, prev);
    if way.order == Order::NewestFirst {
        shapes.reverse();
        messages.reverse();
    }
    let cursor = |direction, edge: Option<&Message>| {
        let edge = edge?.id;
        Some(Cursor { order: way.order, direction, edge }.encode())
    };
    let back = way.is_back();
    let next = if back || more { cursor(Direction::Next, messages.last()) } else { None };
    // A poll for what comes later finds nothing at first, and asks from the same place again.
    let again = way.cursor.filter(|_| back && messages.is_empty()).map(Cursor::encode);
    let prev_cursor = cursor(Direction::Previous, messages.first()).or(again);
    PageShape { messages: shapes, next_cursor: next, prev_cursor, position }
}

/// What there is of a channel, as far as it is shown. Its count is of all that is stored.
async fn summary(parts: &Parts, channel: &str) -> Result<ChannelShape, Problem> {
    let Some(mut summary) = parts.store.summary(channel).await? else {
        let epoch = parts.store.first_epoch().into();
        return Ok(ChannelShape::new(channel, &Summary { epoch, ..Summary::default() }));
    };
    if let Some(last) = &summary.last {
        let (epoch, offset) = (summary.epoch.clone(), summary.offset);
        let tail = Tail { epoch, offset, last_id: last.id };
        let shown = Shown::up_to(parts, channel, tail).await?;
        if last.id >= shown.end {
            let before = Some(Anchor::Id(shown.end));
            let newest = PageQuery { after: None, before, order: Order::NewestFirst, limit: 1 };
            let page = parts.store.page(channel, &newest).await?;
            (summary.last, summary.prev) = (page.messages.into_iter().next(), page.prev);
            summary.offset = shown.position.offset;
        }
    }
    Ok(ChannelShape::new(channel, &summary))
}

/// Refuses an epoch that the channel never had. It may be asked for where the archive may get it later:
/// from a queue, or what it could not take at first, or as the first one of a channel.
async fn known_epoch(parts: &Parts, channel: &str, epoch: Option<&str>) -> Result<(), Problem> {
    let Some(epoch) = epoch else { return Ok(()) };
    let rules = (parts.rules)().channels.resolve(channel);
    let drops =
        rules.is_some_and(|rules| rules.options.history_archive_overflow == ArchiveOverflow::Drop);
    let chain = parts.store.chain(channel).await?.0;
    if parts.waits_since.is_some()
        || drops
        || chain.is_empty()
        || chain.iter().any(|known| known.name == epoch)
    {
        return Ok(());
    }
    Err(Problem::bad("epoch", "the channel has no such epoch"))
}

async fn remove(parts: &Parts, channel: &str, what: Deletion) -> Answer {
    let is_one = matches!(what, Deletion::Message(_));
    (parts.settle)(channel).await.map_err(|NotSettled| Problem::not_settled())?;
    let deleted = parts.store.delete(channel, what).await?;
    if deleted.count == 0 && is_one {
        return Err(Problem::not_found("the channel has no such message"));
    }
    // Also if there was nothing: a try before may have left copies.
    (parts.forget)(channel, &deleted).await.map_err(|CopiesLeft| Problem::copies_left())?;
    Ok(json(&DeletedShape { deleted: deleted.count }))
}

/// The answer, or 304 if the client has this one already.
fn fresh(request: &HeaderMap, body: &impl Serialize) -> Answer {
    let mut response = json(body);
    let Ok(text) = serde_json::to_vec(body) else { return Ok(response) };
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let given = request.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_this = |one: &str| {
        let plain = gzip::plain_tag(one.trim_start_matches("W/"));
        plain == tag || one == "*"
    };
    if given.is_some_and(|given| given.split(',').map(str::trim).any(is_this)) {
        response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    // What one user may read is not for a shared cache.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

/// A JSON answer.
pub fn json(body: &impl Serialize) -> Response {
    let text = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn limit(text: Option<&str>) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(DEFAULT_LIMIT) };
    let number = text.parse().ok().filter(|number| (1..=MAX_LIMIT).contains(number));
    number.ok_or_else(|| Problem::bad("limit", format!("must be from 1 to {MAX_LIMIT}")))
}

/// The order of a listing.
pub fn order(text: Option<&str>) -> Result<Order, Problem> {
    match text {
        None | Some("newest") => Ok(Order::NewestFirst),
        Some("oldest") => Ok(Order::OldestFirst),
        Some(_) => Err(Problem::bad("order", "must be newest or oldest")),
    }
}

fn message_id(text: &str, field: &'static str) -> Result<MessageId, Problem> {
    text.parse().map_err(|_| Problem::bad(field, "must be a message id: a number below 2^63"))
}

fn whole(text: &str, field: &'static str) -> Result<u64, Problem> {
    text.parse().map_err(|_| Problem::bad(field, "must be an offset: a number from 0"))
}
