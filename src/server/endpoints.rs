//! Which endpoint is served where: the paths of both ports.

use std::sync::Arc;

use hyper::header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, LOCATION};
use hyper::{Method, StatusCode};

use super::dev::Dev;
use super::{ServerError, history};
use crate::api::http::HttpApi;
use crate::api::openapi::assets as swagger;
use crate::config::Config;
use crate::config::http_api::ErrorMode;
use crate::config::websocket::WebSocket;
use crate::lifecycle::Lifecycle;
use crate::node::Node;
use crate::telemetry::health::Health;
use crate::transport::limits::ConnectionLimits;
use crate::transport::origin::AllowedOrigins;
use crate::transport::probes;
use crate::transport::routes::{Handler, Routes, empty, handler, with_type};
use crate::transport::upgrade::WebSocketEndpoint;
use crate::transport::websocket::{CompressionSettings, WebSocketSettings};

/// The routes of the port for clients, and of the internal one if there is one.
pub struct Ports {
    pub external: Routes,
    pub internal: Routes,
}

/// Everything that the configuration switches on.
pub fn routes(
    config: &Config,
    node: &Arc<Node>,
    health: &Arc<Health>,
    lifecycle: &Lifecycle,
    has_internal: bool,
    dev: Option<&Dev>,
) -> Result<Ports, ServerError> {
    let mut ports = Ports { external: Routes::new(), internal: Routes::new() };
    if config.prometheus.instrument_http_handlers {
        ports.external.count_requests(Arc::clone(&node.metrics));
        ports.internal.count_requests(Arc::clone(&node.metrics));
    }
    if !config.websocket.disabled {
        let path = &config.websocket.handler_prefix;
        ports.external.add(&[Method::GET], path, websocket(config, node, lifecycle)?)?;
    }
    if let Some(dev) = dev {
        dev.add_routes(&mut ports.external, node)?;
    }
    let Ports { external, internal } = &mut ports;
    history::add_to_node(external, config, node)?;
    let for_operators = if has_internal { &mut *internal } else { &mut *external };
    if config.health.enabled {
        probes::add_health(for_operators, &config.health.handler_prefix, health)?;
    }
    if config.prometheus.enabled {
        probes::add_metrics(for_operators, &config.prometheus.handler_prefix, &node.metrics)?;
    }
    if config.swagger.enabled {
        add_swagger(for_operators, config)?;
    }
    if let Some(api) = api(config, node) {
        let api = Arc::new(api);
        add_api(for_operators, config, &api)?;
        if has_internal && config.http_api.external {
            add_api(external, config, &api)?;
        }
    }
    Ok(ports)
}

fn websocket(
    config: &Config,
    node: &Arc<Node>,
    lifecycle: &Lifecycle,
) -> Result<Handler, ServerError> {
    let user_header = match config.client.user_id_http_header.as_str() {
        "" => None,
        name => Some(
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| ServerError::UserHeader(name.to_owned()))?,
        ),
    };
    let endpoint = Arc::new(WebSocketEndpoint {
        node: Arc::clone(node),
        origins: AllowedOrigins::new(&config.client.allowed_origins)?,
        limits: ConnectionLimits::new(
            config.client.connection_limit as usize,
            config.client.connection_rate_limit,
        ),
        settings: websocket_settings(&config.websocket),
        tracker: lifecycle.tracker.clone(),
        user_header,
    });
    Ok(handler(move |request, peer| {
        let response = endpoint.answer(request, peer);
        async { response }
    }))
}

fn websocket_settings(config: &WebSocket) -> WebSocketSettings {
    let inflated = match config.decompressed_message_size_limit {
        0 => config.message_size_limit.saturating_mul(10),
        limit => limit,
    };
    let compression = CompressionSettings {
        level: match config.compression_level {
            // What Go's library takes for its default, and for a way without matches.
            -1 => 6,
            level => u32::try_from(level).unwrap_or(1),
        },
        min_size: config.compression_min_size,
    };
    WebSocketSettings {
        message_size_limit: config.message_size_limit,
        inflated_size_limit: inflated,
        write_timeout: config.write_timeout,
        compression: config.compression.then_some(compression),
    }
}

/// The server API, unless nobody could use it.
fn api(config: &Config, node: &Arc<Node>) -> Option<HttpApi> {
    let settings = &config.http_api;
    if settings.disabled {
        return None;
    }
    if settings.key.is_empty() && !settings.insecure {
        return None;
    }
    let key = (!settings.insecure).then(|| settings.key.clone());
    let by_status = settings.error_mode == ErrorMode::Transport;
    Some(HttpApi::new(Arc::clone(node), key, by_status))
}

fn add_api(routes: &mut Routes, config: &Config, api: &Arc<HttpApi>) -> Result<(), ServerError> {
    let prefix = config.http_api.handler_prefix.trim_end_matches('/').to_owned();
    for pattern in [prefix.clone(), format!("{prefix}/*")] {
        let api = Arc::clone(api);
        let skip = prefix.len();
        let answer = handler(move |request, _| {
            let api = Arc::clone(&api);
            let path = request.uri().path().get(skip..).unwrap_or_default();
            let method = path.trim_start_matches('/').to_owned();
            async move { api.handle(request, &method).await }
        });
        routes.add(&[Method::POST], &pattern, answer)?;
    }
    Ok(())
}

/// The API's description, and a page to try it with.
fn add_swagger(routes: &mut Routes, config: &Config) -> Result<(), ServerError> {
    let prefix = config.swagger.handler_prefix.trim_end_matches('/');
    let own = format!("\"url\": \"{}\"", config.http_api.handler_prefix);
    let described = swagger::OPENAPI.replace("\"url\": \"/api\"", &own);
    for asset in swagger::FILES {
        let body = match asset.path {
            "openapi.json" => bytes::Bytes::from(described.clone()),
            _ => bytes::Bytes::from_static(asset.body),
        };
        let answer = handler(move |_, _| {
            let mut response = with_type(StatusCode::OK, asset.content_type, body.clone());
            let policy = HeaderValue::from_static(swagger::CONTENT_SECURITY_POLICY);
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
            async { response }
        });
        routes.add(&[Method::GET], &format!("{prefix}/{}", asset.path), answer)?;
    }
    let there = HeaderValue::from_str(&format!("{prefix}/"));
    let redirect = handler(move |_, _| {
        let mut response = empty(StatusCode::PERMANENT_REDIRECT);
        if let Ok(there) = &there {
            response.headers_mut().insert(LOCATION, there.clone());
        }
        async { response }
    });
    routes.add(&[Method::GET], prefix, redirect)?;
    Ok(())
}
