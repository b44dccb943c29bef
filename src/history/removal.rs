//! The endpoints that delete, for backends.

use axum::extract::{Request, State};
use serde::Deserialize;
use utoipa::IntoParams;

use super::answer::{Answer, json};
use super::asked::{Asked, Service, message_id, whole};
use super::place::Place;
use super::problem::Problem;
use super::rest::known_epoch;
use super::shapes::DeletedShape;
use super::{CopiesLeft, NotSettled, Parts, access};
use crate::archive::Deletion;

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
