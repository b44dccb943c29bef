//! The endpoints, and a handler for each that reads.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::{delete, get};
use serde::Deserialize;
use utoipa::IntoParams;

use super::answer::{Answer, fresh};
use super::asked::{Asked, Service, limit, message_id, order, whole};
use super::cursor::{self, Cursor, Direction};
use super::place::Place;
use super::problem::Problem;
use super::removal::{delete_channel, delete_message, delete_range};
use super::shapes::{ChannelShape, ChannelsShape, MessageShape, PageShape, PositionShape};
use super::shown::Shown;
use super::{Parts, access, export, openapi};
use crate::archive::{Anchor, Message, MessageId, Order, Page, PageQuery, Summary, Tail};
use crate::config::channel::ArchiveOverflow;

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
pub async fn known_epoch(parts: &Parts, channel: &str, epoch: Option<&str>) -> Result<(), Problem> {
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
