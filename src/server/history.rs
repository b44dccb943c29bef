//! The history service, as the configuration has it: on the port of a gateway, or alone.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;

use super::certificates::Certificates;
use super::ingest::{Alone, forget_in, settle_in, waits_in};
use super::{Config, Reload, ServerError, reload_when_asked};
use crate::api::access::Access;
use crate::archive::retention::{Retention, Terms};
use crate::archive::{Deleted, SharedStore};
use crate::history::{
    CopiesLeft, Forget, HistoryService, InForce, METHODS, Parts, Settle, WaitsSince,
};
use crate::lifecycle::Lifecycle;
use crate::node::Node;
use crate::redis::Reporting;
use crate::telemetry::health::{Health, Limits, Phase};
use crate::telemetry::metrics::Metrics;
use crate::time::Clock;
use crate::transport::accept::{Listener, Serving};
use crate::transport::origin::AllowedOrigins;
use crate::transport::probes;
use crate::transport::routes::{Routes, handler};

/// Adds the service of a node with an archive.
pub fn add_to_node(
    routes: &mut Routes,
    config: &Config,
    node: &Arc<Node>,
) -> Result<(), ServerError> {
    let Some(archive) = node.broker.archive().filter(|_| !config.history.rest_disabled) else {
        return Ok(());
    };
    let store = Arc::clone(archive.store());
    let with_rules = Arc::clone(node);
    let with_copies = Arc::clone(node);
    let forget = move |channel: &str, deleted: &Deleted| {
        let (node, channel, deleted) =
            (Arc::clone(&with_copies), channel.to_owned(), deleted.clone());
        let forget = async move {
            node.broker.forget(&channel, &deleted).await.map_err(|error| {
                tracing::error!(%error, channel, "a deleted message may be in a stream still");
                CopiesLeft
            })
        };
        forget.boxed()
    };
    let rules = Arc::new(move || with_rules.rules());
    let redis = node.broker.redis().cloned();
    let queue = (waits_in(redis.clone(), &node.clock), settle_in(redis));
    add(routes, config, store, rules, (queue, Arc::new(forget)))
}

/// Runs the service alone until the process is told to stop; with Redis it also brings into the store
/// what waits there.
///
/// # Errors
/// What keeps it from starting.
pub async fn run(config: &Config, reload: Reload) -> Result<(), ServerError> {
    let certificates = Certificates::load(config)?;
    let listener = Listener::bind("history", &config.history.address, config.history.port).await?;
    let lifecycle = Lifecycle::new();
    lifecycle.listen_for_signals().map_err(ServerError::Signals)?;
    let store = super::store::open(&config.history).await?;
    let rules = Arc::new(ArcSwap::from_pointee(super::rules_of(config)?));
    let metrics = Arc::new(Metrics::new(&config.prometheus.prefix)?);
    let clock = Clock::real();
    let health = Arc::new(Health::new(clock.clone(), Limits::of(&config.health)));
    let reporting = Reporting { health: Arc::clone(&health), metrics: Arc::clone(&metrics) };
    let ingest = Alone::start(config, &store, &clock, &reporting)?;
    let mut routes = Routes::new();
    routes.count_requests(Arc::clone(&metrics));
    let redis = ingest.as_ref().map(|ingest| Arc::clone(&ingest.redis));
    let queue = (waits_in(redis.clone(), &clock), settle_in(redis.clone()));
    let copies = (queue, forget_in(redis));
    let current = Arc::clone(&rules);
    let in_force: InForce = Arc::new(move || current.load_full());
    let interval = config.history.expire_interval;
    let (kept, counted) = (Arc::clone(&store), Arc::clone(&metrics));
    keep_retention(kept, Arc::clone(&in_force), counted, interval, &lifecycle);
    add(&mut routes, config, Arc::clone(&store), in_force, copies)?;
    probes::add_health(&mut routes, &config.health.handler_prefix, &health)?;
    if config.prometheus.enabled {
        probes::add_metrics(&mut routes, &config.prometheus.handler_prefix, &metrics)?;
    }
    health.enter(Phase::Ready);
    let tls = certificates.external.clone();
    let put_in_force = move |new| rules.store(Arc::new(new));
    reload_when_asked(&lifecycle, certificates, move || reload(), put_in_force);
    let serving = Serving { tls, ..Serving::new(routes, &lifecycle) };
    lifecycle.tracker.spawn(listener.serve(serving));
    let fit = ingest.as_ref().map_or_else(|| ready(Ok(())).boxed(), Alone::fit);
    tokio::select! {
        () = lifecycle.left() => {}
        Err(why) = fit => return Err(ServerError::Unfit(why)),
    }
    health.enter(Phase::Draining);
    lifecycle.stop_softly_after(config.shutdown.drain_delay).await;
    let limit = config.shutdown.timeout;
    let consuming = async {
        if let Some(ingest) = &ingest {
            ingest.stop(limit).await;
        }
    };
    let (answered, ()) = tokio::join!(lifecycle.stopped(limit), consuming);
    if !answered {
        tracing::warn!("not every request was answered in time");
    }
    store.close().await;
    Ok(())
}

/// Drops what has expired in a store, until the soft stop.
pub fn keep_retention(
    store: SharedStore,
    rules: InForce,
    metrics: Arc<Metrics>,
    interval: Duration,
    lifecycle: &Lifecycle,
) {
    let terms = move || {
        let rules = rules();
        let prefixes = rules.channels.expiring();
        let of = move |channel: &str| rules.channels.archived_for(channel);
        Terms { prefixes, of: Box::new(of) }
    };
    let retention = Retention::new(store, Clock::real(), metrics, Box::new(terms), interval);
    tokio::spawn(lifecycle.soft.clone().run_until_cancelled_owned(retention.run()));
}

/// Adds the service of a store; `waits_since` and `settle` see to what is not there yet, `forget` to
/// what is elsewhere too.
pub fn add(
    routes: &mut Routes,
    config: &Config,
    store: SharedStore,
    rules: InForce,
    ((waits_since, settle), forget): ((Option<WaitsSince>, Settle), Forget),
) -> Result<(), ServerError> {
    let api = &config.http_api;
    let service = Arc::new(HistoryService::new(Parts {
        store,
        rules,
        // Without a key nobody is a backend, unless that was asked for.
        access: Access::new((!api.insecure).then(|| api.key.clone())),
        waits_since,
        settle,
        forget,
        origins: AllowedOrigins::new(&config.client.allowed_origins)?,
        clock: Clock::real(),
        insecure: config.client.insecure,
        prefix: config.history.handler_prefix.clone(),
    }));
    let answer = handler(move |request, _| {
        let service = Arc::clone(&service);
        async move { service.answer(request).await }
    });
    let prefix = config.history.handler_prefix.trim_end_matches('/');
    let patterns = match prefix.is_empty() {
        true => vec!["/*".to_owned()],
        false => ["", "/", "/*"].map(|end| format!("{prefix}{end}")).to_vec(),
    };
    for pattern in patterns {
        routes.add(&METHODS, &pattern, Arc::clone(&answer))?;
    }
    Ok(())
}
