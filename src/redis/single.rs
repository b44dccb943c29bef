//! Follows one master: finds it, connects to it, and does both again when it is lost.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::try_join_all;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::canary::Ear;
use super::complaint::{Complaint, REMIND_EVERY};
use super::dial::ConnectionError;
use super::keys::Keys;
use super::link::Identity;
use super::options::Place;
use super::reader::Reader;
use super::routes::{Attachment, Routes};
use super::sentinel::Masters;
use super::shard::{RETRY, Shard, reason};

/// The tasks that keep connections; the first that ends takes the others with it.
pub(super) type Tasks = JoinSet<Result<(), ConnectionError>>;

/// Keeps a shard connected to its master; ends with its place if that is a node of a cluster.
pub(super) async fn follow(shard: Arc<Shard>, stop: CancellationToken) -> Place {
    let number = shard.number();
    let mut masters = Masters::watch(&shard.options().source, number, shard.clock(), &stop);
    let key = shard.keys().canary(number);
    let singer = shard.canaries().singer("", move || Some(key.clone()));
    let mut before = None;
    let mut last_place = None;
    let mut complaint = Complaint::default();
    loop {
        let Ok(Some(place)) = timeout(REMIND_EVERY, masters.current()).await else {
            tracing::warn!(shard = number, "no sentinel names a master, asking on");
            singer.way().lost(&"no sentinel names a master");
            continue;
        };
        let (token, mut tasks) = (stop.child_token(), JoinSet::new());
        let _guard = token.clone().drop_guard();
        let attached = async {
            let attachment = attach(&shard, &place, &token, &mut tasks, &mut before).await?;
            let limit = shard.options().access.io_timeout;
            tokio::select! {
                biased;
                ended = tasks.join_next() => Err(reason(ended)),
                proven = singer.prove(attachment.publishing(), limit) => proven.map(|()| attachment),
            }
        };
        let attached = attached.await;
        match attached {
            Ok(attachment) => {
                complaint = Complaint::default();
                tracing::info!(shard = number, %place, "connected to Redis");
                singer.way().connected();
                let (singing, link) = (Arc::clone(&singer), attachment.publishing().clone());
                let singing = async move { Err(singing.until_unheard(&link).await) };
                let singing = token.clone().run_until_cancelled_owned(singing);
                tasks.spawn(singing.map(|ended| ended.unwrap_or(Ok(()))));
                let moved = last_place.replace(place.clone()).is_some_and(|last| last != place);
                shard.metrics().redis.master_changes.with(shard.label()).inc_by(u64::from(moved));
                shard.go(Routes::One(Arc::new(attachment)), true);
                shard.receive().resumed(number);
                let moved = tokio::select! {
                    ended = tasks.join_next() => {
                        let error = reason(ended);
                        tracing::warn!(shard = number, %place, %error, "Redis was lost");
                        singer.way().lost(&error);
                        false
                    }
                    () = masters.moved_from(&place) => {
                        tracing::warn!(shard = number, %place, "Redis has another master");
                        singer.way().lost(&"the sentinels name another master");
                        true
                    }
                };
                shard.go(Routes::Away, false);
                token.cancel();
                while tasks.join_next().await.is_some() {}
                if moved {
                    continue;
                }
            }
            Err(ConnectionError::Cluster) => return place,
            Err(error) => {
                singer.way().lost(&error);
                complaint.about(&shard, &place, &error);
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Makes all connections, or none. What was read of an earlier history is void before anything of
/// another one is heard.
async fn attach(
    shard: &Arc<Shard>,
    place: &Place,
    stop: &CancellationToken,
    tasks: &mut Tasks,
    before: &mut Option<Identity>,
) -> Result<Attachment, ConnectionError> {
    let (options, keys) = (shard.options(), shard.keys());
    let (attachment, drivers) =
        Attachment::open(place, options, keys.clone(), before.as_ref(), false, shard.meter())
            .await?;
    let now = attachment.link.identity().clone();
    if let Some(before) = before.replace(now.clone()) {
        let same_history = before.id == now.id;
        if !same_history {
            tracing::warn!(shard = shard.number(), %place, "the data of Redis may have gone back");
        }
        let is_ours = |channel: &str| shard.keeps(channel);
        shard.receive().interrupted(shard.number(), same_history, &is_ours);
    }
    for driver in drivers {
        tasks.spawn(driver.run(stop.clone()));
    }
    hear(shard, place, keys, &now, stop, tasks).await?;
    Ok(attachment)
}

/// Opens the readers of a shard, and waits until everything of interest is heard.
pub(super) async fn hear(
    shard: &Arc<Shard>,
    place: &Place,
    keys: &Keys,
    identity: &Identity,
    stop: &CancellationToken,
    tasks: &mut Tasks,
) -> Result<(), ConnectionError> {
    let access = &shard.options().access;
    let opening = shard.listening().iter().enumerate().map(|(reader, listening)| {
        let (canaries, receive) = (Arc::clone(shard.canaries()), Arc::clone(shard.receive()));
        let ear = Arc::new(Ear { canaries, reader, receive });
        Reader::open(place, access, identity, keys.clone(), Arc::clone(listening), ear)
    });
    let mut settled = Vec::new();
    for (reader, is_settled) in try_join_all(opening).await? {
        let (metrics, stop) = (Arc::clone(shard.metrics()), stop.clone());
        tasks.spawn(async move {
            let ended = reader.run(stop).await;
            if let Err(error) = &ended {
                metrics.broker.pub_sub_errors.with(error.into()).inc();
            }
            ended
        });
        settled.push(is_settled);
    }
    tokio::select! {
        Ok(_) = try_join_all(settled) => Ok(()),
        ended = tasks.join_next() => Err(reason(ended)),
    }
}
