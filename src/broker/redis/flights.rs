//! One read for all who ask the same at the same time.
//!
//! Who asks while a read is under way waits for the next one: the answer to a question that was sent
//! before it was asked may be too old, and a subscriber that trusts it misses what came between. So
//! of one question there are at most two at work, however many ask. Where reads of one question would
//! follow each other at once, as when thousands of clients come back to one channel, they keep a
//! distance, in which more come together.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use ahash::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// From the beginning of a read to that of the next one of the same question.
const DISTANCE: Duration = Duration::from_millis(5);

/// The reads under way.
#[derive(Debug)]
pub(super) struct Flights<K, V> {
    /// For each, those who wait for the one after it.
    waiting: Arc<Mutex<HashMap<K, Vec<oneshot::Sender<V>>>>>,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { waiting: Arc::default() }
    }
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Answers `key` with what `read` gives, begun after this was called; `None` if a read broke off.
    /// Giving up waiting stops nothing.
    pub async fn join<F>(&self, key: K, read: impl Fn() -> F + Send + 'static) -> Option<V>
    where
        F: Future<Output = V> + Send,
    {
        let (sender, answer) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting.lock();
            match waiting.get_mut(&key) {
                Some(next) => {
                    next.push(sender);
                    None
                }
                None => {
                    waiting.insert(key.clone(), Vec::new());
                    Some(sender)
                }
            }
        };
        if let Some(sender) = is_first {
            let flight = Flight { waiting: Arc::clone(&self.waiting), key };
            tokio::spawn(async move {
                let mut passengers = vec![sender];
                while !passengers.is_empty() {
                    let distance = tokio::time::sleep(DISTANCE);
                    let value = read().await;
                    for passenger in passengers {
                        // Some have given up.
                        let _ = passenger.send(value.clone());
                    }
                    if flight.is_awaited() {
                        distance.await;
                    }
                    passengers = flight.next();
                }
            });
        }
        answer.await.ok()
    }
}

/// A key that is being read. Dropped, it is free again, also when the read panics.
struct Flight<K: Eq + Hash, V> {
    waiting: Arc<Mutex<HashMap<K, Vec<oneshot::Sender<V>>>>>,
    key: K,
}

impl<K: Eq + Hash, V> Flight<K, V> {
    fn is_awaited(&self) -> bool {
        self.waiting.lock().get(&self.key).is_some_and(|next| !next.is_empty())
    }

    /// Those who came in the meantime; nobody, and then the key is free.
    fn next(&self) -> Vec<oneshot::Sender<V>> {
        let mut waiting = self.waiting.lock();
        let next = waiting.get_mut(&self.key).map(std::mem::take).unwrap_or_default();
        if next.is_empty() {
            waiting.remove(&self.key);
        }
        next
    }
}

impl<K: Eq + Hash, V> Drop for Flight<K, V> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.waiting.lock().remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// Counts reads; each waits for a permit.
    fn counted(
        count: &Arc<AtomicUsize>,
        gate: &Arc<Semaphore>,
    ) -> impl Fn() -> futures_util::future::BoxFuture<'static, usize> + Send + 'static {
        let (count, gate) = (Arc::clone(count), Arc::clone(gate));
        move || {
            let (count, gate) = (Arc::clone(&count), Arc::clone(&gate));
            Box::pin(async move {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                gate.acquire().await.unwrap().forget();
                number
            })
        }
    }

    #[tokio::test]
    async fn who_comes_during_a_read_gets_the_next_one() {
        let (count, gate) = (Arc::default(), Arc::new(Semaphore::new(0)));
        let flights = Flights::default();
        let ask = || flights.join("key", counted(&count, &gate));
        let mut first = Box::pin(ask());
        assert!(futures_util::poll!(&mut first).is_pending());
        while count.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let mut later: Vec<_> = (0..100).map(|_| Box::pin(ask())).collect();
        for one in &mut later {
            assert!(futures_util::poll!(one).is_pending());
        }
        gate.add_permits(2);
        assert_eq!(first.await, Some(1));
        assert!(join_all(later).await.iter().all(|answer| *answer == Some(2)));
        gate.add_permits(1);
        assert_eq!(ask().await, Some(3), "the key is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn reads_of_one_question_keep_a_distance_and_gather_those_who_come_meanwhile() {
        let (count, gate) = (Arc::default(), Arc::new(Semaphore::new(usize::MAX >> 4)));
        let flights = Flights::default();
        let began = tokio::time::interval(Duration::from_secs(1)).tick().await;
        let ask = |after: u64| {
            let (flights, count, gate) = (&flights, &count, &gate);
            async move {
                tokio::time::sleep(Duration::from_millis(after)).await;
                let answer = flights.join("key", counted(count, gate)).await;
                (answer, began.elapsed())
            }
        };
        let alone = ask(0).await;
        assert_eq!(alone, (Some(1), Duration::ZERO), "nobody waits for a distance to nothing");
        gate.forget_permits(usize::MAX);
        let asked = [0, 0, 1, 4].map(ask);
        let release = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            gate.add_permits(2);
        };
        let (answers, ()) = futures_util::join!(join_all(asked), release);
        let answers: Vec<_> =
            answers.into_iter().map(|(number, at)| (number, at.as_millis())).collect();
        assert_eq!(answers, [(Some(2), 1), (Some(3), 5), (Some(3), 5), (Some(3), 5)]);
    }

    #[tokio::test]
    async fn who_gives_up_strands_nobody() {
        let (count, gate) = (Arc::default(), Arc::new(Semaphore::new(0)));
        let flights = Flights::default();
        let mut first = Box::pin(flights.join("key", counted(&count, &gate)));
        assert!(futures_util::poll!(&mut first).is_pending());
        let mut second = Box::pin(flights.join("key", counted(&count, &gate)));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        gate.add_permits(2);
        assert_eq!(second.await, Some(2));
    }

    #[tokio::test]
    async fn different_questions_do_not_wait_for_each_other() {
        let (count, shut, open) =
            (Arc::default(), Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(1)));
        let flights = Flights::default();
        let mut stuck = Box::pin(flights.join("a", counted(&count, &shut)));
        assert!(futures_util::poll!(&mut stuck).is_pending());
        assert!(flights.join("b", counted(&count, &open)).await.is_some());
    }
}
