//! What each method does, in the node's words.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::messages::{
    BroadcastRequest, BroadcastResult, ChannelRequest, ChannelResult, ChannelsRequest,
    ChannelsResult, CloseCode, DisconnectRequest, Done, HistoryRequest, HistoryResult, InfoRequest,
    InfoResult, PresenceResult, PresenceStatsResult, PublishRequest, PublishResponse,
    PublishResult, RefreshRequest, RpcRequest, RpcResult, SubscribeRequest, UnsubscribeRequest,
};
use super::{Api, ApiError, batch};
use crate::broker::KeyOwner;
use crate::channel::{Channel, ChannelRules};
use crate::config::channel::SubscriptionType;
use crate::node::{
    CLOSE_CODES, HistoryQuery, MAX_CLOSE_REASON, Payload, Publish, Selection, UserRefresh,
    UserSubscribe,
};
use crate::protocol::codes::{Disconnect, UnsubscribeCode};
use crate::protocol::publication::Publication;
use crate::telemetry::metrics::labels::ApiMethod;

impl Api {
    /// Publishes into a channel.
    pub async fn publish(&self, request: PublishRequest) -> Result<PublishResult, ApiError> {
        let data = payload(request.data, &request.b64data)?;
        let publish = Publish {
            info: None,
            tags: request.tags,
            skip_history: request.skip_history,
            idempotency_key: request.idempotency_key,
            idempotency_owner: KeyOwner::Api,
            version: request.version,
            version_epoch: request.version_epoch,
            delta: request.delta,
            until_stored: until_stored(&request.archive_ack)?,
        };
        self.publish_into(&request.channel, data, publish).await
    }

    /// Publishes the same into many channels, each for itself: one may fail and others not.
    pub async fn broadcast(&self, request: BroadcastRequest) -> Result<BroadcastResult, ApiError> {
        if request.channels.is_empty() {
            return Err(ApiError::bad_request("channels is empty"));
        }
        let data = payload(request.data, &request.b64data)?;
        let publish = Publish {
            info: None,
            tags: request.tags,
            skip_history: request.skip_history,
            idempotency_key: request.idempotency_key,
            idempotency_owner: KeyOwner::Api,
            version: request.version,
            version_epoch: request.version_epoch,
            delta: request.delta,
            until_stored: until_stored(&request.archive_ack)?,
        };
        let each = request.channels.into_iter().map(|channel| {
            let (data, publish) = (data.clone(), publish.clone());
            async move {
                match self.publish_into(&channel, data, publish).await {
                    Ok(result) => PublishResponse::Result(result),
                    Err(error) => {
                        self.note(ApiMethod::BroadcastPublish, &error);
                        PublishResponse::Error(error)
                    }
                }
            }
        });
        Ok(BroadcastResult { responses: batch::side_by_side(each).await })
    }

    /// Subscribes the user's connections; those that have the channel already stay as they are.
    pub async fn subscribe(&self, request: SubscribeRequest) -> Result<Done, ApiError> {
        self.rules_of(&request.channel)?;
        let subscribe = UserSubscribe {
            expire_at: moment(request.expire_at),
            info: payload(request.info, &request.b64info)?,
            data: payload(request.data, &request.b64data)?,
            recover_since: request.recover_since,
            overrides: request.overrides.into(),
        };
        let selection = selection(request.user, request.client, request.session);
        self.node.subscribe_user(selection, Channel::from(request.channel), subscribe).await?;
        Ok(Done {})
    }

    /// Ends the user's subscriptions to a channel, or to all.
    pub async fn unsubscribe(&self, request: UnsubscribeRequest) -> Result<Done, ApiError> {
        let channel = match request.channel.as_str() {
            "" => None,
            channel => {
                self.node.channel(channel)?;
                Some(Channel::from(channel))
            }
        };
        let selection = selection(request.user, request.client, request.session);
        self.node.unsubscribe_user(selection, channel, UnsubscribeCode::SERVER).await?;
        Ok(Done {})
    }

    /// Closes the user's connections.
    pub async fn disconnect(&self, request: DisconnectRequest) -> Result<Done, ApiError> {
        let disconnect = request.disconnect.map_or(Ok(Disconnect::FORCE_DISCONNECT), close_with)?;
        let selection = selection(request.user, request.client, request.session);
        let selection = Selection { except: request.whitelist, ..selection };
        self.node.disconnect_user(selection, disconnect).await?;
        Ok(Done {})
    }

    /// Moves the moment at which the user's connections expire, perhaps to now.
    pub async fn refresh(&self, request: RefreshRequest) -> Result<Done, ApiError> {
        let selection = selection(request.user, request.client, request.session);
        let info = (!request.info.is_empty()).then_some(request.info);
        let refresh = match request.expired {
            true => UserRefresh::Expired,
            false => UserRefresh::Until { expire_at: moment(request.expire_at), info },
        };
        self.node.refresh_user(selection, refresh).await?;
        Ok(Done {})
    }

    /// The clients in a channel.
    pub async fn presence(&self, request: ChannelRequest) -> Result<PresenceResult, ApiError> {
        let rules = self.rules_of(&request.channel)?;
        let presence = self.node.presence(&request.channel, &rules).await?;
        Ok(PresenceResult { presence })
    }

    /// How many clients and users are in a channel.
    pub async fn presence_stats(
        &self,
        request: ChannelRequest,
    ) -> Result<PresenceStatsResult, ApiError> {
        let rules = self.rules_of(&request.channel)?;
        let counts = self.node.presence_counts(&request.channel, &rules).await?;
        Ok(PresenceStatsResult { num_clients: counts.clients, num_users: counts.users })
    }

    /// Reads a channel's stream; unlike for clients there is no cap on how much.
    pub async fn history(&self, request: HistoryRequest) -> Result<HistoryResult, ApiError> {
        let rules = self.rules_of(&request.channel)?;
        let HistoryRequest { channel, limit, since, reverse } = request;
        let query = HistoryQuery { limit, since, reverse };
        let history = self.node.history(&channel, &rules, query, None).await?;
        let publications = history.publications.iter().map(|publication| Publication {
            data: publication.data.clone(),
            info: publication.info.clone(),
            offset: publication.offset,
            tags: publication.tags.clone(),
            ..Publication::default()
        });
        Ok(HistoryResult {
            publications: publications.collect(),
            epoch: history.top.epoch.into(),
            offset: history.top.offset,
        })
    }

    /// Drops the publications of a channel's stream.
    pub async fn history_remove(&self, request: ChannelRequest) -> Result<Done, ApiError> {
        self.rules_of(&request.channel)?;
        self.node.remove_history(&request.channel).await?;
        Ok(Done {})
    }

    /// The running nodes.
    pub async fn info(&self, _: InfoRequest) -> Result<InfoResult, ApiError> {
        Ok(InfoResult { nodes: self.node.info().into_iter().map(Into::into).collect() })
    }

    /// Calls a procedure of the server, of which there are none.
    pub async fn rpc(&self, _: RpcRequest) -> Result<RpcResult, ApiError> {
        Err(ApiError::not_found("no procedure has this name"))
    }

    /// Channels with subscribers on any node.
    pub async fn channels(&self, request: ChannelsRequest) -> Result<ChannelsResult, ApiError> {
        let channels = self.node.active_channels(&request.pattern).await?;
        let channels = channels.into_iter();
        Ok(ChannelsResult {
            channels: channels
                .map(|(channel, num_clients)| (channel, ChannelResult { num_clients }))
                .collect(),
        })
    }

    async fn publish_into(
        &self,
        channel: &str,
        data: Bytes,
        publish: Publish,
    ) -> Result<PublishResult, ApiError> {
        let rules = self.rules_of(channel)?;
        if rules.options.subscription_type != SubscriptionType::Stream {
            return Err(ApiError::bad_request("the namespace's channels are no streams"));
        }
        let payload = Payload::check(rules, data)?;
        Ok(self.node.publish(channel, payload, publish).await?.into())
    }

    fn rules_of(&self, channel: &str) -> Result<Arc<ChannelRules>, ApiError> {
        if channel.is_empty() {
            return Err(ApiError::bad_request("channel is empty"));
        }
        Ok(self.node.channel(channel)?)
    }
}

/// Whether to wait for the archive, by `archive_ack`.
fn until_stored(archive_ack: &str) -> Result<bool, ApiError> {
    match archive_ack {
        "" => Ok(false),
        "stored" => Ok(true),
        _ => Err(ApiError::bad_request("archive_ack must be stored or empty")),
    }
}

/// The plain payload, unless there is one in base64.
fn payload(plain: Bytes, base64: &str) -> Result<Bytes, ApiError> {
    if base64.is_empty() {
        return Ok(plain);
    }
    let decoded = STANDARD.decode(base64);
    decoded.map(Bytes::from).map_err(|_| {
        ApiError::bad_request("b64data or b64info is not standard base64 with padding")
    })
}

fn selection(user: String, client: String, session: String) -> Selection {
    Selection { user, client, session, ..Selection::default() }
}

/// Unix seconds, of which 0 is never.
fn moment(unix_seconds: i64) -> Option<i64> {
    (unix_seconds != 0).then_some(unix_seconds)
}

fn close_with(close: CloseCode) -> Result<Disconnect, ApiError> {
    if !CLOSE_CODES.contains(&close.code) {
        return Err(ApiError::bad_request("disconnect.code is not from 3000 to 4999"));
    }
    if close.reason.len() > MAX_CLOSE_REASON {
        return Err(ApiError::bad_request("disconnect.reason is longer than 123 bytes"));
    }
    Ok(Disconnect::custom(close.code, close.reason))
}

#[cfg(test)]
mod tests;
