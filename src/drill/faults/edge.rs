//! Gateways and HAProxy go and come.

use std::time::Duration;

use rustix::process::Signal;

use crate::drill::DrillError;
use crate::drill::event::{Event, Record};
use crate::drill::stage::{PATIENCE, Stage};
use crate::drill::topology::TopologyError;

/// Connections that are opened while HAProxy reloads.
const NEWCOMERS: usize = 30;
/// Clients of one node that are sent away leave over at least this time: some of the `drain_window` of
/// sentinel/gateway.toml.
const SPREAD: Duration = Duration::from_secs(2);
/// Where fewer leave, nothing can be said about how they are spread.
const ENOUGH: usize = 6;

/// A gateway is killed; its clients find the other one, and it comes back.
pub async fn node_kill(stage: &mut Stage) -> Result<(), DrillError> {
    stage.fault();
    stage.topology.gateways[0].process.kill();
    stage.whole().await?;
    let gateway = &mut stage.topology.gateways[0];
    gateway.process.start_again().map_err(TopologyError::Process)?;
    gateway.ready().await?;
    stage.calm().await
}

/// HAProxy reads its configuration anew, as after a change.
pub async fn haproxy_reload(stage: &mut Stage) -> Result<(), DrillError> {
    let Some(balancer) = &stage.topology.balancer else { return Err(DrillError::NoBalancer) };
    stage.fault();
    balancer.process.signal(Signal::USR2);
    let (mut let_in, mut told) = (0, String::new());
    for newcomer in 0..NEWCOMERS {
        match stage.client(&format!("newcomer-{newcomer}")).await {
            Ok(_) => let_in += 1,
            Err(error) => told = error.to_string(),
        }
    }
    let what = "every new connection is accepted during the reload";
    stage.checks.that(what, let_in == NEWCOMERS, told);
    stage.whole().await?;
    stage.calm().await
}

/// The gateways are stopped and started one after the other, as for a new version.
pub async fn rolling_restart(stage: &mut Stage) -> Result<(), DrillError> {
    stage.fault();
    let gateways = stage.topology.gateways.len();
    for at in 0..gateways {
        let began = stage.journal.now();
        let gateway = &mut stage.topology.gateways[at];
        gateway.process.stop(PATIENCE).await.map_err(TopologyError::Process)?;
        is_spread(stage, began, at + 1);
        let gateway = &mut stage.topology.gateways[at];
        gateway.process.start_again().map_err(TopologyError::Process)?;
        gateway.ready().await?;
        let Some(balancer) = &mut stage.topology.balancer else { continue };
        balancer.ready(gateways).await?;
        stage.calm().await?;
    }
    Ok(())
}

/// Looks whether the clients that were sent away since `began` left one by one.
fn is_spread(stage: &mut Stage, began: Duration, gateway: usize) {
    let mut left = Vec::new();
    stage.journal.look(|Record { at, event }| {
        if *at >= began && matches!(event, Event::Dropped { .. }) {
            left.push(*at);
        }
    });
    let (Some(first), Some(last)) = (left.first(), left.last()) else { return };
    if left.len() < ENOUGH {
        return;
    }
    let over = last.saturating_sub(*first);
    let what = format!("clients of gateway-{gateway} are sent away one by one");
    stage.checks.that(&what, over >= SPREAD, format!("{} within {over:?}", left.len()));
}
