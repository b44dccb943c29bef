//! The endpoints that orchestrators and scrapers ask.

use std::sync::Arc;

use hyper::{Method, StatusCode};

use super::routes::{RouteError, Routes, handler, json, with_type};
use crate::telemetry::health::{Health, Report};
use crate::telemetry::metrics::{CONTENT_TYPE, Metrics};

type Ask = fn(&Health) -> Report;

/// Adds `prefix` (`health.handler_prefix`, `/health`) and, below it, `/live`, `/ready` and
/// `/delivery`.
///
/// # Errors
/// A path that is taken or not one.
pub fn add_health(
    routes: &mut Routes,
    prefix: &str,
    health: &Arc<Health>,
) -> Result<(), RouteError> {
    let asks: [(&str, Ask); 4] = [
        ("", Health::plain),
        ("/live", Health::live),
        ("/ready", Health::ready),
        ("/delivery", Health::delivery),
    ];
    for (suffix, ask) in asks {
        let health = Arc::clone(health);
        let answer = handler(move |_, _| {
            let Report { status, body } = ask(&health);
            async move { json(status, body) }
        });
        routes.add(&[Method::GET], &format!("{}{suffix}", prefix.trim_end_matches('/')), answer)?;
    }
    Ok(())
}

/// Adds the metrics (`prometheus.handler_prefix`, `/metrics`).
///
/// # Errors
/// A path that is taken or not one.
pub fn add_metrics(
    routes: &mut Routes,
    path: &str,
    metrics: &Arc<Metrics>,
) -> Result<(), RouteError> {
    let metrics = Arc::clone(metrics);
    let answer = handler(move |_, _| {
        let text = metrics.render();
        async move { with_type(StatusCode::OK, CONTENT_TYPE, text) }
    });
    routes.add(&[Method::GET], path, answer)
}
