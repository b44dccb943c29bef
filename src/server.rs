//! The composition root: config, backends, node, listeners. It and what is below it are the only
//! place that names every backend.

mod certificates;
mod dev;
mod endpoints;
mod engine;
pub mod history;
mod ingest;
mod ports;
mod rules;
mod stop;
pub mod store;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::archive::SharedStore;
use crate::broker::ControlOutlet;
use crate::config::Config;
use crate::config::history::HistoryStore;
use crate::hub::{self, Hub};
use crate::lifecycle::{Lifecycle, PidFile};
use crate::node::{Node, Parts, Rules};
use crate::redis::Reporting;
use crate::telemetry::health::{Health, Limits, Phase};
use crate::telemetry::metrics::{Metrics, NodeCounts};
use crate::time::Clock;
use crate::transport::accept::{Listener, Serving};

use self::certificates::Certificates;
pub use self::dev::DevError;
use self::engine::Engine;
pub use self::rules::{RulesError, rules_of, token_settings};

/// How often the broker drops what has expired.
const SWEEP: Duration = Duration::from_secs(1);

/// Gives the configuration anew when the process is asked to reload.
pub type Reload = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    Rules(#[from] RulesError),
    #[error(transparent)]
    Metrics(#[from] crate::telemetry::metrics::MetricsError),
    #[error(transparent)]
    Bind(#[from] crate::transport::accept::BindError),
    #[error(transparent)]
    Tls(#[from] crate::transport::tls::TlsError),
    #[error(transparent)]
    Origin(#[from] crate::transport::origin::OriginError),
    #[error(transparent)]
    Route(#[from] crate::transport::routes::RouteError),
    #[error(transparent)]
    PidFile(#[from] crate::lifecycle::PidFileError),
    #[error(transparent)]
    Dev(#[from] DevError),
    #[error(transparent)]
    History(#[from] store::OpenError),
    #[error(transparent)]
    Redis(#[from] crate::redis::OptionsError),
    #[error("engine.redis: {0}")]
    Unfit(String),
    #[error("client.user_id_http_header: {0:?} is not a header name")]
    UserHeader(String),
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}

/// Runs a gateway until it is told to stop. With `dev` it is opened for a first try on this machine.
pub async fn run(mut config: Config, reload: Reload, dev: bool) -> Result<(), ServerError> {
    let clock = Clock::real();
    let _pid_file = match config.pid_file.as_str() {
        "" => None,
        path => Some(PidFile::write(path.as_ref())?),
    };
    let dev = if dev { Some(dev::prepare(&mut config)?) } else { None };
    let listener =
        Listener::bind("client", &config.http_server.address, config.http_server.port).await?;
    let internal = match config.http_server.internal() {
        Some((address, port)) => Some(Listener::bind("internal", address, port).await?),
        None => None,
    };
    let agent = ports::bind_agent(&config.http_server).await?;
    if dev.is_some() {
        dev::allow_own_origin(&mut config, listener.local_addr());
    }
    let lifecycle = Lifecycle::new();
    lifecycle.listen_for_signals().map_err(ServerError::Signals)?;
    let health = Arc::new(Health::new(clock.clone(), Limits::of(&config.health)));
    stop::drain_when_asked(&health, &lifecycle);
    let store = match config.archives() {
        true => Some(store::open(&config.history).await?),
        false => None,
    };
    let (node, engine, outlet) = node_of(&config, clock, &lifecycle, &health, store.clone())?;
    let routes =
        endpoints::routes(&config, &node, &health, &lifecycle, internal.is_some(), dev.as_ref())?;

    turn_wheel(&node, &lifecycle);
    end_connections(&node);
    sweep(&node, &lifecycle);
    let certificates = Certificates::load(&config)?;
    if let Some(internal) = internal {
        // Health and metrics stay readable while connections drain.
        let serving = Serving::through_drain(routes.internal, &lifecycle);
        let serving = ports::internal(serving, &config.http_server);
        tokio::spawn(internal.serve(Serving { tls: certificates.internal(), ..serving }));
    }
    if let Some(agent) = agent {
        ports::serve_agent(agent, &node, &lifecycle);
    }
    if let Some(dev) = &dev {
        dev.greet(listener.local_addr());
    }
    let tls = certificates.external.clone();
    let serving = Serving { tls, ..Serving::new(routes.external, &lifecycle) };
    let serving = ports::external(serving, &config.http_server, &node.clock);
    reload_node_when_asked(&node, &lifecycle, certificates, reload, dev.is_some());
    node.join_cluster(outlet, config.node.info_metrics_aggregate_interval, &lifecycle);
    engine.start(&lifecycle);
    let (unfit, is_unfit) = oneshot::channel();
    node.broker.start_archiving();
    // Where history services bring publications into a shared store, they also drop what has expired.
    let has_services = engine.redis().is_some() && config.history.store == HistoryStore::Mongo;
    if let Some(store) = store.as_ref().filter(|_| !has_services) {
        let (rules, metrics) = (Arc::clone(&node), Arc::clone(&node.metrics));
        let in_force = Arc::new(move || rules.rules());
        let interval = config.history.expire_interval;
        history::keep_retention(Arc::clone(store), in_force, metrics, interval, &lifecycle);
    }
    let mut fit = None;
    if let (Some(redis), Some(store)) = (engine.redis(), &store) {
        let metrics = Arc::clone(&node.metrics);
        let reporting = Reporting { health: Arc::clone(&health), metrics };
        let telling = (&node.clock, &reporting);
        fit = Some(ingest::in_gateway(&config, redis, store, telling, &lifecycle));
    }
    if engine.is_here() {
        // Before it is said that the port listens, for those who wait for that.
        health.enter(Phase::Ready);
    } else {
        let (health, soft) = (Arc::clone(&health), lifecycle.soft.clone());
        tokio::spawn(soft.run_until_cancelled_owned(async move {
            let reached = engine.reached().await;
            let fit = match (reached, fit) {
                (Ok(()), Some(fit)) => fit.await,
                (reached, _) => reached,
            };
            match fit {
                Ok(()) => health.enter(Phase::Ready),
                Err(why) => drop(unfit.send(why)),
            }
        }));
    }
    lifecycle.tracker.spawn(listener.serve(serving));

    tokio::select! {
        () = stop::until_stopped(&node, &health, &lifecycle, &config.shutdown) => {}
        Ok(why) = is_unfit => return Err(ServerError::Unfit(why)),
    }
    if let Some(store) = store {
        store.close().await;
    }
    Ok(())
}

/// Puts together all that a start puts together short of the ports, and drops it again.
///
/// # Errors
/// What would keep the server from starting: keys, certificates and paths that cannot be used.
pub fn check(config: &Config) -> Result<(), ServerError> {
    let (health, lifecycle) = (Arc::<Health>::default(), Lifecycle::new());
    let (node, ..) = node_of(config, Clock::real(), &lifecycle, &health, None)?;
    let has_internal = config.http_server.internal().is_some();
    endpoints::routes(config, &node, &health, &lifecycle, has_internal, None)?;
    Certificates::load(config)?;
    Ok(())
}

fn node_of(
    config: &Config,
    clock: Clock,
    lifecycle: &Lifecycle,
    health: &Arc<Health>,
    store: Option<SharedStore>,
) -> Result<(Arc<Node>, Engine, Option<ControlOutlet>), ServerError> {
    let metrics = Arc::new(Metrics::new(&config.prometheus.prefix)?);
    let reporting = Reporting { health: Arc::clone(health), metrics: Arc::clone(&metrics) };
    let hub = Arc::new(Hub::new(clock.clone(), Arc::clone(&metrics)));
    let (engine, peers, outlet) = Engine::new(config, &hub, &clock, &reporting, store)?;
    let node = Node::new(Parts {
        name: node_name(config),
        peers,
        broker: engine.broker(config, &hub, &clock, &reporting),
        presence: engine.presence(),
        hub,
        clock,
        client: config.client.clone(),
        rules: rules_of(config)?,
        metrics: Arc::clone(&metrics),
        hard: lifecycle.hard.clone(),
    });
    let counted = Arc::downgrade(&node);
    metrics.count_node_by(move || {
        let Some(node) = counted.upgrade() else { return NodeCounts::default() };
        NodeCounts {
            clients: node.hub.connections.len(),
            users: node.hub.connections.users(),
            subscriptions: node.hub.subscriptions(),
            channels: node.hub.channel_count(),
            nodes: node.count_nodes(),
        }
    });
    Ok((node, engine, outlet))
}

fn node_name(config: &Config) -> String {
    match config.node.name.as_str() {
        "" => {
            format!("{}_{}", host_name(), config.http_server.port)
        }
        name => name.to_owned(),
    }
}

fn host_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "localhost" } else { host.trim() };
    host.to_owned()
}

/// Rings connections at their deadlines until the hard stop.
fn turn_wheel(node: &Arc<Node>, lifecycle: &Lifecycle) {
    let (node, hard) = (Arc::clone(node), lifecycle.hard.clone());
    tokio::spawn(hard.run_until_cancelled_owned(async move {
        let mut turns = tokio::time::interval(hub::TURN);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            node.wheel.turn(node.clock.now());
        }
    }));
}

/// Lets every connection look at the hard stop when it comes, rather than all of them wait for it.
fn end_connections(node: &Arc<Node>) {
    let node = Arc::clone(node);
    tokio::spawn(async move {
        node.hard.cancelled().await;
        node.ring_all();
    });
}

fn sweep(node: &Arc<Node>, lifecycle: &Lifecycle) {
    let (node, hard) = (Arc::clone(node), lifecycle.hard.clone());
    tokio::spawn(hard.run_until_cancelled_owned(async move {
        let mut sweeps = tokio::time::interval(SWEEP);
        sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            sweeps.tick().await;
            node.broker.sweep();
        }
    }));
}

/// What a gateway puts in force on SIGHUP.
fn reload_node_when_asked(
    node: &Arc<Node>,
    lifecycle: &Lifecycle,
    certificates: Certificates,
    reload: Reload,
    dev: bool,
) {
    let archives = node.broker.archive().is_some();
    let again = move || {
        let mut config = reload()?;
        if dev {
            dev::prepare(&mut config).map_err(|error| error.to_string())?;
        }
        if config.archives() && !archives {
            return Err("history_archive: the first namespace needs a restart".into());
        }
        Ok(config)
    };
    let node = Arc::clone(node);
    reload_when_asked(lifecycle, certificates, again, move |rules| node.reload(rules));
}

/// On SIGHUP, puts new channel rules, token keys and certificates in force; a faulty file changes
/// nothing.
fn reload_when_asked(
    lifecycle: &Lifecycle,
    certificates: Certificates,
    reload: impl Fn() -> Result<Config, String> + Send + 'static,
    put_in_force: impl Fn(Rules) + Send + 'static,
) {
    let mut reloads = lifecycle.reloads();
    let soft = lifecycle.soft.clone();
    let again = move || {
        let config = reload()?;
        let rules = rules_of(&config).map_err(|error| error.to_string())?;
        certificates.reload(&config).map_err(|error| error.to_string())?;
        Ok::<_, String>(rules)
    };
    tokio::spawn(soft.run_until_cancelled_owned(async move {
        while reloads.changed().await.is_ok() {
            match again() {
                Ok(rules) => {
                    put_in_force(rules);
                    tracing::info!("configuration reloaded: namespaces, token keys, certificates");
                }
                Err(error) => tracing::error!(%error, "configuration not reloaded"),
            }
        }
    }));
}
