//! How control messages of nodes travel: from one to all or to one, and into a queue of the node.
//!
//! They come over the connections that carry publications too, so taking one must never wait: what
//! finds the queue full is dropped, counted, and said in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::BrokerError;
use super::redis::RedisControl;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::seldom::Seldom;
use crate::time::Clock;

/// Messages that may wait for the node. Acting on one takes microseconds, so that many wait only
/// while the machine stands still.
const WAITING: usize = 8_192;
/// Bytes of them together; answers that list channels are the large ones.
const WAITING_BYTES: usize = 64 * 1_024 * 1_024;

/// Sends control messages.
pub enum Controller {
    /// There are no other nodes.
    Alone,
    /// To all nodes on the same Redis.
    Redis(RedisControl),
    /// Keeps what is sent, and who it is for; sends nothing while there is no sender.
    #[cfg(test)]
    Kept(parking_lot::Mutex<Option<mpsc::Sender<Sent>>>),
}

/// A message, and the node it is for.
#[cfg(test)]
pub type Sent = (Option<String>, Bytes);

impl Controller {
    /// Sends a message to node `to`, or to all.
    ///
    /// # Errors
    /// It was not sent, or nobody knows whether it was.
    pub async fn send(&self, to: Option<&str>, message: Vec<u8>) -> Result<(), BrokerError> {
        match self {
            Self::Alone => Ok(()),
            Self::Redis(control) => control.send(to, &message).await,
            #[cfg(test)]
            Self::Kept(kept) => {
                let sent = (to.map(str::to_owned), Bytes::from(message));
                let kept = kept.lock();
                let kept = kept.as_ref().ok_or(BrokerError::Unavailable)?;
                kept.try_send(sent).map_err(|_| BrokerError::Unavailable)
            }
        }
    }

    /// Whether there are no other nodes, and never will be.
    pub fn is_alone(&self) -> bool {
        matches!(self, Self::Alone)
    }

    /// Whether messages of others can arrive.
    pub fn can_hear(&self) -> bool {
        match self {
            Self::Redis(control) => control.can_hear(),
            Self::Alone => true,
            #[cfg(test)]
            Self::Kept(kept) => kept.lock().is_some(),
        }
    }
}

/// A queue of control messages for one node: the end that takes them in, and the one that gives them
/// out.
pub fn control_queue(clock: Clock, metrics: Arc<Metrics>) -> (ControlInlet, ControlOutlet) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let (bytes, attached) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let inlet = ControlInlet {
        queue: sender,
        bytes: Arc::clone(&bytes),
        attached: Arc::clone(&attached),
        clock,
        metrics,
        complaint: Seldom::default(),
    };
    (inlet, ControlOutlet { messages: ControlMessages { queue: receiver, bytes }, attached })
}

/// Takes messages in.
pub struct ControlInlet {
    queue: mpsc::Sender<Bytes>,
    /// Of what waits.
    bytes: Arc<AtomicUsize>,
    attached: Arc<Notify>,
    clock: Clock,
    metrics: Arc<Metrics>,
    complaint: Seldom,
}

/// What a node hears of the others.
pub struct ControlOutlet {
    pub messages: ControlMessages,
    /// Rings when others can hear this node again, or for the first time.
    pub attached: Arc<Notify>,
}

/// Gives messages out.
pub struct ControlMessages {
    queue: mpsc::Receiver<Bytes>,
    bytes: Arc<AtomicUsize>,
}

impl ControlInlet {
    /// Takes a message, or drops it if too much waits. The bytes are copied: they may be a slice of
    /// a much larger buffer.
    pub fn take(&self, message: &Bytes) {
        let length = message.len();
        let waiting = self.bytes.fetch_add(length, Ordering::Relaxed).saturating_add(length);
        let fits = waiting <= WAITING_BYTES
            && self.queue.try_send(Bytes::copy_from_slice(message)).is_ok();
        if !fits {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
            self.metrics.node.control_dropped.inc();
            if self.complaint.may(self.clock.unix_millis()) {
                tracing::warn!(
                    length,
                    "control messages come faster than they are acted on: dropped"
                );
            }
        }
    }

    /// Others can hear this node now.
    pub fn attached(&self) {
        self.attached.notify_one();
    }
}

impl ControlMessages {
    /// The next message; `None` when there can be no more.
    pub async fn next(&mut self) -> Option<Bytes> {
        let message = self.queue.recv().await?;
        self.bytes.fetch_sub(message.len(), Ordering::Relaxed);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> (ControlInlet, ControlOutlet) {
        control_queue(Clock::manual(1_000), Arc::new(Metrics::default()))
    }

    #[tokio::test]
    async fn messages_come_out_in_order() {
        let (inlet, mut outlet) = queue();
        for message in ["a", "b"] {
            inlet.take(&Bytes::from(message));
        }
        drop(inlet);
        assert_eq!(outlet.messages.next().await.as_deref(), Some(&b"a"[..]));
        assert_eq!(outlet.messages.next().await.as_deref(), Some(&b"b"[..]));
        assert_eq!(outlet.messages.next().await, None);
    }

    #[tokio::test]
    async fn what_nobody_takes_out_is_dropped_past_the_bounds() {
        let (inlet, mut outlet) = queue();
        for _ in 0..WAITING + 3 {
            inlet.take(&Bytes::from("a"));
        }
        assert_eq!(inlet.metrics.node.control_dropped.get(), 3);
        while outlet.messages.queue.try_recv().is_ok() {}

        let (inlet, mut outlet) = queue();
        let large = Bytes::from(vec![0; WAITING_BYTES / 2]);
        for _ in 0..3 {
            inlet.take(&large);
        }
        assert_eq!(inlet.metrics.node.control_dropped.get(), 1);
        assert!(outlet.messages.next().await.is_some());
        inlet.take(&large);
        assert_eq!(inlet.metrics.node.control_dropped.get(), 1, "there is room again");
    }
}
