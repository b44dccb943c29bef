//! A deliberate small wait before publications are written, so that more of them share a write.
//!
//! A system call costs a connection more than everything else about a delivery. One timer serves all
//! connections that wait for the same delay.

use std::mem;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use ahash::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Wakes connections together, a while after the first of them had something to write.
#[derive(Debug)]
pub struct WriteDelay {
    delay: Duration,
    waiting: Mutex<Vec<Waker>>,
    begun: Notify,
}

/// The delays in use, one timer each.
#[derive(Debug, Default)]
pub struct WriteDelays {
    by_length: Mutex<HashMap<Duration, Arc<WriteDelay>>>,
}

impl WriteDelay {
    /// Wakes `waker` once, at most the delay from now.
    pub(super) fn wake_later(&self, waker: Waker) {
        let mut waiting = self.waiting.lock();
        waiting.push(waker);
        if waiting.len() == 1 {
            self.begun.notify_one();
        }
    }

    async fn run(&self) {
        loop {
            self.begun.notified().await;
            tokio::time::sleep(self.delay).await;
            let waiting = mem::take(&mut *self.waiting.lock());
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

impl WriteDelays {
    /// The timer for `delay`, begun when first asked for; `None` for no delay. Configurations name a
    /// handful, so none ever ends.
    pub fn of(&self, delay: Duration) -> Option<Arc<WriteDelay>> {
        if delay.is_zero() {
            return None;
        }
        let begin = || {
            let (waiting, begun) = (Mutex::default(), Notify::new());
            let timer = Arc::new(WriteDelay { delay, waiting, begun });
            let running = Arc::clone(&timer);
            tokio::spawn(async move { running.run().await });
            timer
        };
        Some(Arc::clone(self.by_length.lock().entry(delay).or_insert_with(begin)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake};

    use super::*;
    use crate::hub::{Message, Outbox, Wanted};
    use crate::protocol::frame::Codec;

    const DELAY: Duration = Duration::from_millis(10);

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Wakes {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// An outbox whose connection sleeps, and how often it was woken.
    fn sleeping() -> (Outbox, Arc<Wakes>) {
        let (outbox, wakes) = (Outbox::new(1_024), Arc::new(Wakes::default()));
        assert!(drain(&outbox, &wakes).is_none());
        (outbox, wakes)
    }

    fn drain(outbox: &Outbox, wakes: &Arc<Wakes>) -> Option<usize> {
        let waker = Arc::clone(wakes).into();
        match outbox.poll_drain(&mut Context::from_waker(&waker), Wanted::ALL) {
            Poll::Ready(drained) => Some(drained.messages.len()),
            Poll::Pending => None,
        }
    }

    fn message() -> Message {
        Message::new(Codec::Json, b"{}")
    }

    #[tokio::test(start_paused = true)]
    async fn connections_wake_once_and_together_when_the_delay_is_over() {
        let delay = WriteDelays::default().of(DELAY).expect("a delay");
        let ((a, a_wakes), (b, b_wakes)) = (sleeping(), sleeping());
        for outbox in [&a, &b, &a] {
            outbox.push_delayed(message(), &delay);
        }
        tokio::time::sleep(DELAY - Duration::from_millis(1)).await;
        assert_eq!((a_wakes.count(), b_wakes.count()), (0, 0));
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!((a_wakes.count(), b_wakes.count()), (1, 1));
        assert_eq!((drain(&a, &a_wakes), drain(&b, &b_wakes)), (Some(2), Some(1)));

        assert!(drain(&a, &a_wakes).is_none());
        a.push_delayed(message(), &delay);
        tokio::time::sleep(DELAY * 2).await;
        assert_eq!((a_wakes.count(), b_wakes.count()), (2, 1), "the next delay begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_delayed_takes_along_what_waits() {
        let delay = WriteDelays::default().of(DELAY).expect("a delay");
        let (outbox, wakes) = sleeping();
        outbox.push_delayed(message(), &delay);
        outbox.push(message());
        assert_eq!(wakes.count(), 1);
        assert_eq!(drain(&outbox, &wakes), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_overflows_does_not_wait_to_say_so() {
        let delay = WriteDelays::default().of(DELAY).expect("a delay");
        let (outbox, wakes) = sleeping();
        (0..100).for_each(|_| outbox.push_delayed(message(), &delay));
        assert_eq!(wakes.count(), 1);
        assert!(outbox.is_closing());
    }

    #[tokio::test]
    async fn each_length_has_one_timer() {
        let delays = WriteDelays::default();
        assert!(delays.of(Duration::ZERO).is_none());
        let (one, again) = (delays.of(DELAY).expect("one"), delays.of(DELAY).expect("again"));
        assert!(Arc::ptr_eq(&one, &again));
    }
}
