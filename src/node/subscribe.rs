//! A subscription's existence in hub and broker.

use std::sync::Arc;
use std::time::Duration;

use super::{Error, Node};
use crate::channel::{Channel, ChannelRules};
use crate::hub::{Connection, Delivery, Reserved, SubscriptionKey, WriteDelay};
use crate::telemetry::metrics::labels::Action;

/// A subscription that buffers. Dropped, it is gone again, wherever making it failed.
pub struct Pending {
    node: Arc<Node>,
    reserved: Reserved,
    kept: bool,
}

impl Node {
    /// Adds a subscription to the hub and makes this node receive the channel. Once it returns,
    /// nothing published can pass the subscription by.
    pub async fn subscribe(
        self: &Arc<Self>,
        channel: &Channel,
        connection: &Arc<Connection>,
        delivery: Delivery,
    ) -> Result<Pending, Error> {
        let reserved = self.hub.subscribe(channel, connection, delivery);
        let pending = Pending { node: Arc::clone(self), reserved, kept: false };
        self.metrics.node.actions.with(Action::AddSubscription).inc();
        self.broker.subscribe(channel).await?;
        Ok(pending)
    }

    /// How long publications in such a channel may wait for a common write.
    pub fn write_delay(&self, rules: &ChannelRules) -> Option<Arc<WriteDelay>> {
        self.write_delays.of(match rules.options.write_delay {
            Duration::ZERO => self.client.write_delay,
            own => own,
        })
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, channel: &Channel, key: SubscriptionKey) {
        self.metrics.node.actions.with(Action::RemoveSubscription).inc();
        if self.hub.unsubscribe(channel, key) {
            self.broker.unsubscribe(channel);
        }
    }
}

impl Pending {
    /// The subscription's place, while it is pending.
    pub fn reserved(&self) -> &Reserved {
        &self.reserved
    }

    /// Hands the subscription over to whoever will end it.
    pub fn keep(mut self) -> Reserved {
        self.kept = true;
        self.reserved.clone()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.kept {
            self.node.unsubscribe(&self.reserved.channel, self.reserved.key);
        }
    }
}
