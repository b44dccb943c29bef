//! The service's description of itself.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use utoipa::OpenApi;
use utoipa::openapi::Server;

use super::Parts;
use super::problem::Problem;
use super::shapes::{
    ChannelShape, ChannelsShape, DeletedShape, MessageShape, PageShape, PositionShape,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Bobolink history",
        description = "Messages of archived channels. Backends give the API key in X-API-Key. \
            Users give their connection token as bearer of Authorization, and where the channel \
            asks for subscribers a subscription token in X-Subscription-Token.",
        license(name = "Apache-2.0")
    ),
    paths(
        super::rest::messages,
        super::rest::around,
        super::rest::channel,
        super::rest::channels,
        super::rest::delete_message,
        super::rest::delete_range,
        super::rest::delete_channel,
        super::export::export,
    ),
    components(schemas(
        MessageShape,
        PageShape,
        PositionShape,
        ChannelShape,
        ChannelsShape,
        DeletedShape,
        Problem
    ))
)]
struct Description;

/// Serves the description, with the prefix that the service has here.
pub async fn describe(State(parts): State<Arc<Parts>>) -> Response {
    let mut description = Description::openapi();
    description.servers = Some(vec![Server::new(parts.prefix.as_str())]);
    super::rest::json(&description)
}
