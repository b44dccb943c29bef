//! Connections of a caller's own, beside the one that all share: for commands that wait at the server,
//! since those behind them on one connection wait as well.

use tokio_util::sync::CancellationToken;

use super::dial::ConnectionError;
use super::link::{CallError, Greeting, Link};
use super::routes::Routes;
use super::shard::Shard;

impl Shard {
    /// Whether it is a cluster; not known while there is no connection.
    pub fn is_cluster(&self) -> Option<bool> {
        match &**self.routes() {
            Routes::Away => None,
            Routes::One(_) => Some(false),
            Routes::Cluster { .. } => Some(true),
        }
    }

    /// Another connection to the master that calls go to now; of a cluster, to any. It ends when that
    /// one is no master any more or `stop` is cancelled. A command may wait there for less than
    /// `engine.redis.io_timeout`, after which the connection counts as dead.
    ///
    /// # Errors
    /// [`CallError::Unavailable`]
    pub async fn beside(&self, stop: &CancellationToken) -> Result<Link, CallError> {
        let attachment = self.attachment()?;
        let (place, access) = (&attachment.place, &self.options().access);
        let identity = attachment.link.identity();
        let opening = async {
            let greeting = Greeting::of(place, access).await?;
            if greeting.id != identity.id {
                return Err(ConnectionError::OtherIdentity);
            }
            greeting.into_link(access, identity.is_first, None, self.meter()).await
        };
        let (link, driver) = opening.await.map_err(|error| {
            tracing::debug!(shard = self.number(), %place, %error, "no second connection to Redis");
            CallError::Unavailable
        })?;
        tokio::spawn(driver.run(stop.clone()));
        Ok(link)
    }
}
