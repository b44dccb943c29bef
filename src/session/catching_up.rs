//! Recovery from further back than streams reach: the archive is read page by page, as fast as the
//! client takes it, and only the last stretch goes through the merge with the present.
//!
//! What the archive does not have yet is read from the stream at hand.
//!
//! Before the reply says `recovered` it is proven that nothing is missing up to the stream's top.
//! After it, whatever goes wrong ends the subscription with 2500 (3010 for a server-side one), and
//! the client goes on from what it has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;

use super::Session;
use super::establish::Grant;
use super::refusal::Refusal;
use crate::archive::{Chain, Span, StoreError};
use crate::broker::{Archive, StreamTop};
use crate::channel::permission;
use crate::hub::{Delivery, Message, Position, Reserved, Signal, Start};
use crate::node::{Density, Node, PastError};
use crate::protocol::codes::{Disconnect, ErrorCode};
use crate::protocol::publication::{Publication, StreamPosition};

/// Publications that may wait for a connection to take them before more are read: this part of what
/// its queue holds at most.
const LOW_WATER: usize = 8;

/// Bytes of a page: this part of what the connection's queue holds at most, and one publication more.
const PAGE: usize = 4;

/// Pauses between looks at a connection that is slow to take what waits for it.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A way from a client's position to the present that is known to have no gap.
pub(super) struct Path {
    channel: Arc<str>,
    /// What is still to be read.
    spans: VecDeque<Span>,
    /// Publications and bytes that may still be read.
    left: (u64, usize),
}

/// Publications of a path, in order.
#[derive(Default)]
pub(super) struct Page {
    pub publications: Vec<Arc<Publication>>,
    epoch: CompactString,
}

/// Why catching up ended early.
enum Broken {
    /// The subscription or the connection is gone; nobody is to be told.
    Gone,
    /// The client is to recover from what it has.
    Lost(&'static str),
}

impl From<PastError> for Broken {
    fn from(error: PastError) -> Self {
        match error {
            PastError::Missing => Self::Lost("a publication is missing"),
            error => {
                tracing::error!(%error, "a recovery from the archive broke off");
                Self::Lost("what was missed cannot be read")
            }
        }
    }
}

impl Session {
    /// The way from `asked` to `top` through the archive; none if there is none without a gap, or the
    /// client may not go that far back.
    pub(super) async fn path(
        &self,
        channel: &str,
        grant: &Grant,
        asked: &StreamPosition,
        top: &StreamTop,
    ) -> Result<Option<Path>, Refusal> {
        let Some((archive, rules)) = self.node.archive_of(channel) else { return Ok(None) };
        let limits = *archive.limits();
        let chain = match *asked.epoch == *top.epoch {
            true => Chain::default(),
            false => archive.store().chain(channel).await.map_err(|error| unread(&error.into()))?,
        };
        let to = StreamPosition { offset: top.offset, epoch: top.epoch.to_string() };
        let Some(spans) = chain.path(asked, &to) else { return Ok(None) };
        let count: u64 = spans.iter().map(Span::len).sum();
        if count > limits.recovery_publications {
            return Ok(None);
        }
        for span in &spans {
            let is_current = span.epoch == top.epoch;
            let density = self.node.density(archive, &rules, channel, span, is_current).await;
            match density.map_err(|error| unread(&error))? {
                Density::Dense => {}
                Density::Gap => return Ok(None),
                // It is not known yet; the client is to ask again.
                Density::Late => return Err(ErrorCode::INTERNAL.into()),
            }
        }
        let left = (limits.recovery_publications, limits.recovery_bytes);
        let path = Path { channel: channel.into(), spans: spans.into(), left };
        // A position is a claim, not a right.
        let may_read = permission::history(&grant.rules, &self.actor(true)).is_ok();
        let oldest = self.node.clock.unix_millis() - limits.recovery_age.as_millis() as i64;
        if !may_read {
            let begins_before = path.begins_before(&self.node, archive, oldest).await;
            if begins_before.map_err(|error| unread(&error))? {
                return Ok(None);
            }
        }
        if !path.fits(archive).await.map_err(|error| unread(&error.into()))? {
            return Ok(None);
        }
        Ok(Some(path))
    }

    /// The first page of a path.
    pub(super) async fn first_page(&self, path: &mut Path) -> Result<Page, Refusal> {
        let Some(archive) = self.node.broker.archive() else { return Ok(Page::default()) };
        let page = path.next(&self.node, archive, self.page_bytes()).await;
        // Nobody was told yet that all will come.
        page.map_err(|_| ErrorCode::INTERNAL.into())
    }

    /// Feeds a subscription that catches up until it is live.
    pub(super) fn bring_up(self: &Arc<Self>, reserved: Reserved, delivery: Delivery, path: Path) {
        let session = Arc::clone(self);
        tokio::spawn(async move {
            let metrics = &session.node.metrics.history;
            metrics.recovering.inc();
            let ended = session.read_on(&reserved, &delivery, path).await;
            metrics.recovering.dec();
            if let Err(Broken::Lost(why)) = ended {
                metrics.broken_recoveries.inc();
                tracing::info!(channel = %reserved.channel, why, "a recovery broke off");
                let (channel, key) = (reserved.channel.clone(), reserved.key);
                session.outbox().signal(Signal::PositionLost { channel, key });
            }
        });
    }

    async fn read_on(
        &self,
        reserved: &Reserved,
        delivery: &Delivery,
        mut path: Path,
    ) -> Result<(), Broken> {
        let archive = self.node.broker.archive().ok_or(Broken::Gone)?;
        let merged = u64::from(self.node.client.recovery_max_publication_limit);
        loop {
            while path.len() > 0 {
                self.taken().await?;
                let page = path.next(&self.node, archive, self.page_bytes()).await?;
                let messages = self.encode_past(reserved, delivery, &page)?;
                if !self.node.hub.feed(reserved, messages) {
                    return Err(Broken::Gone);
                }
            }
            self.taken().await?;
            if !self.node.hub.hold(reserved) {
                return Err(Broken::Gone);
            }
            let top = self.top(reserved).await?;
            path.extend(&top)?;
            if path.len() <= merged {
                return self.merge(archive, reserved, delivery, path, top).await;
            }
            self.node.hub.release(reserved);
        }
    }

    /// The last stretch: what was published since the hold is kept, so nothing can be between.
    async fn merge(
        &self,
        archive: &Archive,
        reserved: &Reserved,
        delivery: &Delivery,
        mut path: Path,
        top: StreamTop,
    ) -> Result<(), Broken> {
        let mut last = Vec::new();
        while path.len() > 0 {
            let page = path.next(&self.node, archive, self.page_bytes()).await?;
            last.extend(self.encode_past(reserved, delivery, &page)?);
        }
        let position = Position { offset: top.offset, epoch: top.epoch };
        let start = Start { position, holds_base: false };
        let now_ms = self.node.clock.unix_millis();
        self.node.hub.go_live(reserved, start, last, now_ms);
        Ok(())
    }

    async fn top(&self, reserved: &Reserved) -> Result<StreamTop, Broken> {
        let lost = Broken::Lost("the stream could not be read");
        let Ok(rules) = self.node.channel(&reserved.channel) else { return Err(lost) };
        let top = self.node.stream_top(&reserved.channel, rules.history_meta_ttl).await;
        top.map_err(|_| lost)
    }

    /// Waits until the connection has taken most of what waits for it.
    async fn taken(&self) -> Result<(), Broken> {
        let low = self.node.client.queue_max_size / LOW_WATER;
        let mut pause = FIRST_PAUSE;
        while self.outbox().bytes() > low {
            if self.outbox().is_closing() {
                return Err(Broken::Gone);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }

    fn encode_past(
        &self,
        reserved: &Reserved,
        delivery: &Delivery,
        page: &Page,
    ) -> Result<Vec<Message>, Broken> {
        let encode = |publication: &Arc<Publication>| {
            let (hub, epoch) = (&self.node.hub, &page.epoch);
            let message = hub.encode_past(reserved, self.codec(), delivery, publication, epoch);
            message.map_err(|_| {
                self.outbox().close(Disconnect::INAPPROPRIATE_PROTOCOL);
                Broken::Gone
            })
        };
        page.publications.iter().filter_map(|past| encode(past).transpose()).collect()
    }

    fn page_bytes(&self) -> usize {
        self.node.client.queue_max_size / PAGE
    }
}

impl Path {
    /// Offsets that are still to be read.
    pub fn len(&self) -> u64 {
        self.spans.iter().map(Span::len).sum()
    }

    /// Whether its payloads are within the bound. What is published in the meantime comes on top.
    async fn fits(&self, archive: &Archive) -> Result<bool, StoreError> {
        let mut left = self.left.1;
        for span in &self.spans {
            match archive.blocks().weigh(&self.channel, span, left).await? {
                Some(size) => left -= size.min(left),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Reads on to the end of a block, or until `bytes` are reached.
    async fn next(&mut self, node: &Node, archive: &Archive, bytes: usize) -> Result<Page, Broken> {
        while self.spans.front().is_some_and(Span::is_empty) {
            self.spans.pop_front();
        }
        let Some(span) = self.spans.front_mut() else { return Ok(Page::default()) };
        let (publications, size_left) = self.left;
        if publications == 0 || size_left == 0 {
            return Err(Broken::Lost("it would bring more than one recovery may"));
        }
        let (mut found, mut reached) = node.past(archive, &self.channel, span).await?;
        let mut size = 0;
        let mut fits = |past: &Arc<Publication>| {
            let fits = size < bytes;
            size += if fits { past.data.len() } else { 0 };
            fits
        };
        let count = found.iter().take_while(|past| fits(past)).count();
        if let Some(next) = found.get(count) {
            reached = next.offset - 1;
        }
        found.truncate(count);
        // Past the bound by a page at most: what is smaller than a message must not keep it for ever.
        let read = reached - span.after;
        self.left = (publications.saturating_sub(read), size_left.saturating_sub(size));
        span.after = reached;
        Ok(Page { publications: found, epoch: span.epoch.clone() })
    }

    /// What was published since belongs to the path as well.
    fn extend(&mut self, top: &StreamTop) -> Result<(), Broken> {
        let last = self.spans.back_mut().filter(|span| span.epoch == top.epoch);
        let last = last.ok_or(Broken::Lost("the stream has another epoch"))?;
        if top.offset < last.through {
            return Err(Broken::Lost("the stream went back"));
        }
        last.through = top.offset;
        Ok(())
    }

    /// Whether its first publication is older than `millis`, in unix milliseconds.
    async fn begins_before(
        &self,
        node: &Node,
        archive: &Archive,
        millis: i64,
    ) -> Result<bool, PastError> {
        for span in &self.spans {
            let mut span = span.clone();
            while !span.is_empty() {
                let (found, reached) = node.past(archive, &self.channel, &span).await?;
                // Where all of it was deleted, what follows decides.
                if let Some(first) = found.first() {
                    return Ok(first.time < millis);
                }
                span.after = reached;
            }
        }
        Ok(false)
    }
}

/// What does not answer proves nothing: the client is to ask again.
fn unread(error: &PastError) -> Refusal {
    tracing::error!(%error, "the archive cannot be read for a recovery");
    ErrorCode::INTERNAL.into()
}
