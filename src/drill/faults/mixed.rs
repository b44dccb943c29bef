//! Nodes of ours and of Centrifugo on one Redis are one cluster to clients and backends.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::failovers::redis_failover;
use crate::client::{Client, Endpoint, Error, Incoming};
use crate::drill::api::{Api, Place};
use crate::drill::crew::EntranceError;
use crate::drill::stage::Stage;
use crate::drill::topology::{Gateway, TopologyError};
use crate::drill::{DrillError, looks};
use crate::protocol::command::SubscribeRequest;
use crate::protocol::reply::SubscribeResult;

/// The longest until a node knows what another one does; they tell each other every 3 s.
const SOON: Duration = Duration::from_secs(15);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One node, as somebody sees it who works on a cluster.
struct Side {
    name: String,
    endpoint: Endpoint,
    api: Api,
}

/// Everything is tried from ours to theirs and back; then one node of each is restarted.
pub async fn mixed(stage: &mut Stage) -> Result<(), DrillError> {
    let mut ours = side(stage, stage.topology.gateways.first())?;
    let mut theirs = side(stage, stage.topology.foreign.first())?;
    direction(stage, &mut ours, &mut theirs).await?;
    direction(stage, &mut theirs, &mut ours).await?;
    stage.fault();
    for node in [restarted_first as fn(&mut Stage) -> Option<&mut Gateway>, restarted_foreign] {
        let Some(gateway) = node(stage) else { return Err(DrillError::NoCentrifugo) };
        gateway.process.stop(SOON * 3).await.map_err(TopologyError::Process)?;
        gateway.process.start_again().map_err(TopologyError::Process)?;
        gateway.ready().await?;
        stage.calm().await?;
    }
    Ok(())
}

/// A failover, with writers on all nodes. Only ours promise that it is never passed over in silence, so
/// that all readers are there.
pub async fn mixed_failover(stage: &mut Stage) -> Result<(), DrillError> {
    redis_failover(stage).await
}

fn restarted_first(stage: &mut Stage) -> Option<&mut Gateway> {
    stage.topology.gateways.first_mut()
}

fn restarted_foreign(stage: &mut Stage) -> Option<&mut Gateway> {
    stage.topology.foreign.first_mut()
}

fn side(stage: &Stage, gateway: Option<&Gateway>) -> Result<Side, DrillError> {
    let gateway = gateway.ok_or(DrillError::NoCentrifugo)?;
    let endpoint = Endpoint::new(&gateway.client_address()).map_err(EntranceError::Endpoint)?;
    let place = Place::new(&gateway.api_address()).map_err(EntranceError::Place)?;
    let api = Api::new(place, stage.entrance.api_key.clone());
    Ok(Side { name: gateway.process.name().to_owned(), endpoint, api })
}

/// What somebody does on one side is seen on the other.
async fn direction(stage: &mut Stage, from: &mut Side, to: &mut Side) -> Result<(), DrillError> {
    let channel = format!("chat:{}-{}", from.name, to.name);
    let user = format!("ann-on-{}", to.name);
    let way = format!("from {} to {}", from.name, to.name);
    let mut ann = connected(stage, to, &user).await?;
    let start = ann.subscribe(&channel).await.map_err(DrillError::Client)?;
    let published = from.publish(&channel, 1).await;
    let arrived = ann.publication(SOON).await.is_ok_and(|(_, publication)| publication.offset == 1);
    stage.checks.that(&format!("a publication goes {way}"), arrived, &published);

    let read = to.ask("history", json!({"channel": channel, "limit": 10})).await;
    let is_same = read["publications"].as_array().is_some_and(|read| read.len() == 1)
        && read["epoch"] == published["epoch"]
        && read["epoch"] == start.epoch.as_str();
    stage.checks.that(&format!("history goes {way}"), is_same, &read);

    let asked = json!({"channel": channel});
    let present = from.until("presence", &asked, |seen| seen.to_string().contains(&user)).await;
    stage.checks.that(&format!("presence is seen {way}"), present.is_ok(), told(&present));
    let known = from.until("info", &json!({}), |seen| seen.to_string().contains(&to.name)).await;
    stage.checks.that(&format!("info knows {way}"), known.is_ok(), told(&known));
    let is_listed = |seen: &Value| seen["channels"].get(&channel).is_some();
    let listed = from.until("channels", &json!({}), is_listed).await;
    stage.checks.that(&format!("channels are listed {way}"), listed.is_ok(), told(&listed));

    let asked = json!({"user": user, "channel": channel});
    let _ = from.ask("unsubscribe", asked).await;
    let ended = until(
        &mut ann,
        |incoming| matches!(incoming, Incoming::Push(push) if push.unsubscribe.is_some()),
    );
    let ended = ended.await;
    stage.checks.that(&format!("unsubscribe goes {way}"), ended, "no unsubscribe came");
    let _ = from.ask("disconnect", json!({"user": user})).await;
    let ended = until(&mut ann, |incoming| matches!(incoming, Incoming::Closed(_))).await;
    stage.checks.that(&format!("disconnect goes {way}"), ended, "the connection stays");

    from.publish(&channel, 2).await;
    let result = recovered(stage, from, &user, &channel, &start).await;
    let result = result.map_err(DrillError::Client)?;
    let is_whole = result.recovered && result.publications.len() == 2;
    stage.checks.that(
        &format!("a client recovers {way} and back"),
        is_whole,
        format!("{result:?}"),
    );
    Ok(())
}

impl Side {
    async fn publish(&mut self, channel: &str, number: u64) -> Value {
        self.ask("publish", json!({"channel": channel, "data": {"mixed": number}})).await
    }

    /// The result of a call, or its error as text.
    async fn ask(&mut self, method: &str, params: Value) -> Value {
        let answer = self.api.call(method, &params).await;
        answer.unwrap_or_else(|error| Value::String(error.to_string()))
    }

    /// Asks until the answer is as it should be; else the last one.
    async fn until(
        &mut self,
        method: &str,
        params: &Value,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<(), Value> {
        let mut last = Value::Null;
        let mut looks = looks(LOOK_EVERY);
        let looking = async {
            loop {
                looks.tick().await;
                last = self.ask(method, params.clone()).await;
                if is_so(&last) {
                    return;
                }
            }
        };
        timeout(SOON, looking).await.map_err(|_| last)
    }
}

async fn connected(stage: &Stage, side: &Side, user: &str) -> Result<Client, DrillError> {
    let mut client = Client::open(&side.endpoint).await.map_err(DrillError::Client)?;
    let token = stage.entrance.token(user, &stage.clock);
    client.connect(token.expose()).await.map_err(DrillError::Client)?;
    Ok(client)
}

/// What a client is given on one side from a position of the other.
async fn recovered(
    stage: &Stage,
    side: &Side,
    user: &str,
    channel: &str,
    start: &SubscribeResult,
) -> Result<SubscribeResult, Error> {
    let mut client = Client::open(&side.endpoint).await?;
    client.connect(stage.entrance.token(user, &stage.clock).expose()).await?;
    let request = SubscribeRequest {
        channel: channel.to_owned(),
        recover: true,
        offset: start.offset,
        epoch: start.epoch.clone(),
        ..SubscribeRequest::default()
    };
    client.subscribe_with(request).await
}

/// Whether something comes in time.
async fn until(client: &mut Client, is_it: impl Fn(&Incoming) -> bool) -> bool {
    let waiting = async {
        while let Ok(incoming) = client.next(SOON).await {
            if is_it(&incoming) {
                return true;
            }
            // Nothing else comes, though it can be asked for ever.
            if matches!(incoming, Incoming::Closed(_)) {
                break;
            }
        }
        false
    };
    timeout(SOON, waiting).await.unwrap_or(false)
}

fn told(outcome: &Result<(), Value>) -> String {
    outcome.as_ref().err().map(Value::to_string).unwrap_or_default()
}
