//! `presence`, `presence_stats` and `history`: permission, then what the node knows.

use std::sync::Arc;

use crate::channel::{ChannelRules, permission};
use crate::node::HistoryQuery;
use crate::protocol::codes::Disconnect;
use crate::protocol::command::{HistoryRequest, PresenceRequest, PresenceStatsRequest};
use crate::protocol::publication::Publication;
use crate::protocol::reply::{HistoryResult, PresenceResult, PresenceStatsResult, Reply};
use crate::session::Session;
use crate::session::refusal::Refusal;

pub async fn presence(
    session: &Arc<Session>,
    request: PresenceRequest,
) -> Result<Option<Reply>, Refusal> {
    let rules = rules(session, &request.channel)?;
    permission::presence(&rules, &session.actor_in(&request.channel))?;
    let presence = session.node.presence(&request.channel, &rules).await?;
    Ok(Some(Reply { presence: Some(PresenceResult { presence }), ..Reply::default() }))
}

pub async fn presence_stats(
    session: &Arc<Session>,
    request: PresenceStatsRequest,
) -> Result<Option<Reply>, Refusal> {
    let rules = rules(session, &request.channel)?;
    permission::presence(&rules, &session.actor_in(&request.channel))?;
    let counts = session.node.presence_counts(&request.channel, &rules).await?;
    let result = PresenceStatsResult { num_clients: counts.clients, num_users: counts.users };
    Ok(Some(Reply { presence_stats: Some(result), ..Reply::default() }))
}

pub async fn history(
    session: &Arc<Session>,
    request: HistoryRequest,
) -> Result<Option<Reply>, Refusal> {
    let rules = rules(session, &request.channel)?;
    permission::history(&rules, &session.actor_in(&request.channel))?;
    let query =
        HistoryQuery { limit: request.limit, since: request.since, reverse: request.reverse };
    let most = session.node.client.history_max_publication_limit;
    let history = session.node.history(&request.channel, &rules, query, Some(most)).await?;
    let of_client = |p: &Arc<Publication>| p.for_client_history(&request.channel);
    let result = HistoryResult {
        publications: history.publications.iter().map(of_client).collect(),
        epoch: history.top.epoch.to_string(),
        offset: history.top.offset,
    };
    Ok(Some(Reply { history: Some(result), ..Reply::default() }))
}

fn rules(session: &Session, channel: &str) -> Result<Arc<ChannelRules>, Refusal> {
    if channel.is_empty() {
        return Err(Disconnect::BAD_REQUEST.into());
    }
    session.channel(channel)
}
