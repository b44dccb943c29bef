//! The service's description of itself.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use utoipa::openapi::Server;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::{Modify, OpenApi};

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
    modifiers(&Keys),
    paths(
        super::rest::messages,
        super::rest::around,
        super::rest::channel,
        super::rest::channels,
        super::removal::delete_message,
        super::removal::delete_range,
        super::removal::delete_channel,
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

/// What opens the service.
struct Keys;

impl Modify for Keys {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let header = |name| SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new(name)));
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let schemes = [
            ("api_key", header("X-API-Key")),
            ("connection_token", SecurityScheme::Http(bearer)),
            ("subscription_token", header("X-Subscription-Token")),
        ];
        let components = openapi.components.get_or_insert_default();
        for (name, scheme) in schemes {
            components.add_security_scheme(name, scheme);
        }
        // Each alone is enough.
        let enough = |name| SecurityRequirement::new(name, std::iter::empty::<&str>());
        openapi.security =
            Some(["api_key", "connection_token", "subscription_token"].map(enough).into());
    }
}

/// Serves the description, with the prefix that the service has here.
pub async fn describe(State(parts): State<Arc<Parts>>) -> Response {
    let mut description = Description::openapi();
    description.servers = Some(vec![Server::new(parts.prefix.as_str())]);
    super::answer::json(&description)
}
