//! Signals, stop tokens and the drain schedule.
//!
//! A stop has three stages. First the node is leaving: it says so to load balancers and serves as
//! before, until they have looked. Then comes the soft stop, which ends accepting and asks every
//! connection to leave within the drain window; the hard one ends what has not left by then. Every
//! task that must be gone before the process ends is tracked here: hyper does not wait for upgraded
//! connections.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long tasks may take to end after the hard stop, before they are left behind.
const HARD_STOP_GRACE: Duration = Duration::from_secs(2);

/// The share of the drain window in which connections are asked to leave; the rest is left for
/// the last of them to flush what is queued and to finish the closing handshake.
const DRAIN_SHARE: f64 = 0.8;

/// The stop tokens, the tracked tasks and the wishes of the administrator of one process. Clones
/// share them.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    /// Cancelled when the node is to stop and should tell so to whoever sends it connections.
    pub leaving: CancellationToken,
    /// Cancelled when the node should stop taking connections and let go of those it has.
    pub soft: CancellationToken,
    /// Cancelled when everything must end now.
    pub hard: CancellationToken,
    /// The tasks that [`Lifecycle::stopped`] waits for.
    pub tracker: TaskTracker,
    reload: watch::Sender<u64>,
    drain: watch::Sender<bool>,
}

/// A file that holds the process id, removed when dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

/// A pid file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("pid_file: cannot write {}: {source}", path.display())]
pub struct PidFileError {
    path: PathBuf,
    source: io::Error,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// A process that is running.
    pub fn new() -> Self {
        Self {
            leaving: CancellationToken::new(),
            soft: CancellationToken::new(),
            hard: CancellationToken::new(),
            tracker: TaskTracker::new(),
            reload: watch::Sender::new(0),
            drain: watch::Sender::new(false),
        }
    }

    /// Listens for signals from now on: the first SIGINT or SIGTERM begins a stop, the second stops
    /// hard; SIGHUP asks for a reload, SIGUSR1 for no new connections and SIGUSR2 for them again.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn listen_for_signals(&self) -> io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut drain = signal(SignalKind::user_defined1())?;
        let mut undrain = signal(SignalKind::user_defined2())?;
        let lifecycle = self.clone();
        // Not tracked: it listens for as long as there is a process.
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => lifecycle.ask_to_stop(),
                    _ = terminate.recv() => lifecycle.ask_to_stop(),
                    _ = hangup.recv() => lifecycle.ask_to_reload(),
                    _ = drain.recv() => lifecycle.ask_to_drain(true),
                    _ = undrain.recv() => lifecycle.ask_to_drain(false),
                }
            }
        });
        Ok(())
    }

    /// Begins a stop, or stops hard if one is under way.
    pub fn ask_to_stop(&self) {
        if self.leaving.is_cancelled() {
            tracing::warn!("asked to stop again: closing everything now");
            self.soft.cancel();
            self.hard.cancel();
        } else {
            tracing::info!("stopping");
            self.leaving.cancel();
        }
    }

    /// Waits until the node is leaving.
    pub async fn left(&self) {
        self.leaving.cancelled().await;
    }

    /// Stops softly when `delay` (`shutdown.drain_delay`) has passed, or before that on a hard stop.
    pub async fn stop_softly_after(&self, delay: Duration) {
        if !delay.is_zero() {
            let _ = tokio::time::timeout(delay, self.soft.cancelled()).await;
        }
        self.soft.cancel();
    }

    /// Wishes for no new connections, or for them again. Those that are here stay.
    pub fn ask_to_drain(&self, drain: bool) {
        let news = if drain { "asked to take no connections" } else { "asked to take connections" };
        tracing::info!("{news}");
        self.drain.send_replace(drain);
    }

    /// The last wish for a drain, now and when it changes.
    pub fn drains(&self) -> watch::Receiver<bool> {
        self.drain.subscribe()
    }

    /// Whether new connections had better go elsewhere: somebody wishes so, or the node is leaving.
    pub fn turns_away(&self) -> bool {
        self.leaving.is_cancelled() || *self.drain.borrow()
    }

    /// Tells those who wait on [`Lifecycle::reloads`] to read their configuration again.
    pub fn ask_to_reload(&self) {
        self.reload.send_modify(|count| *count += 1);
    }

    /// Changes with each reload that was asked for. Requests that come while one is being served
    /// melt into one.
    pub fn reloads(&self) -> watch::Receiver<u64> {
        self.reload.subscribe()
    }

    /// Waits for the soft stop, then for every tracked task, at most `timeout` (`shutdown.timeout`)
    /// or until the hard stop; then stops hard. True if every task ended by itself.
    pub async fn stopped(&self, timeout: Duration) -> bool {
        self.soft.cancelled().await;
        self.tracker.close();
        let in_time = tokio::select! {
            // First: after a hard stop the tasks are gone too, but not by themselves.
            biased;
            () = self.hard.cancelled() => false,
            () = self.tracker.wait() => true,
            () = tokio::time::sleep(timeout) => false,
        };
        self.hard.cancel();
        if !in_time && tokio::time::timeout(HARD_STOP_GRACE, self.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = self.tracker.len(), "left tasks behind");
        }
        in_time
    }
}

/// When in the drain window a connection is to be asked to leave, so that not all of them come to
/// the other nodes in one moment. `place` is the connection's place in the line, from 0 to 1: its
/// index over their number, or a random number. Ends before the window does.
pub fn drain_delay(place: f64, window: Duration) -> Duration {
    let place = if place.is_nan() { 0.0 } else { place.clamp(0.0, 1.0) };
    window.mul_f64(DRAIN_SHARE * place)
}

impl PidFile {
    /// Writes the id of this process to `path`, replacing what stands there.
    ///
    /// # Errors
    /// A path that cannot be written.
    pub fn write(path: &Path) -> Result<Self, PidFileError> {
        fs::write(path, format!("{}\n", std::process::id()))
            .map_err(|source| PidFileError { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the pid file");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn the_second_request_to_stop_is_the_hard_one() {
        let lifecycle = Lifecycle::new();
        lifecycle.ask_to_stop();
        assert!(lifecycle.leaving.is_cancelled() && !lifecycle.soft.is_cancelled());
        lifecycle.ask_to_stop();
        assert!(lifecycle.soft.is_cancelled() && lifecycle.hard.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_leaving_node_serves_on_until_load_balancers_have_looked() {
        let lifecycle = Lifecycle::new();
        lifecycle.ask_to_stop();
        lifecycle.left().await;
        let delay = Duration::from_secs(3);
        let mut stopping = std::pin::pin!(lifecycle.stop_softly_after(delay));
        let early = tokio::time::timeout(delay - Duration::from_millis(1), &mut stopping).await;
        assert!(early.is_err() && !lifecycle.soft.is_cancelled());
        stopping.await;
        assert!(lifecycle.soft.is_cancelled() && !lifecycle.hard.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hard_stop_waits_for_no_delay() {
        let lifecycle = Lifecycle::new();
        lifecycle.ask_to_stop();
        lifecycle.ask_to_stop();
        let stopping = lifecycle.stop_softly_after(Duration::from_secs(3_600));
        tokio::time::timeout(Duration::from_secs(1), stopping).await.expect("at once");
    }

    #[tokio::test]
    async fn a_wish_to_drain_can_be_taken_back_and_a_stop_cannot() {
        let lifecycle = Lifecycle::new();
        let mut drains = lifecycle.drains();
        lifecycle.ask_to_drain(true);
        assert!(*drains.borrow_and_update() && lifecycle.turns_away());
        lifecycle.ask_to_drain(false);
        assert!(!*drains.borrow_and_update() && !lifecycle.turns_away());
        lifecycle.ask_to_stop();
        lifecycle.ask_to_drain(false);
        assert!(lifecycle.turns_away());
    }

    #[tokio::test]
    async fn a_stop_waits_for_tracked_tasks() {
        let lifecycle = Lifecycle::new();
        let soft = lifecycle.soft.clone();
        let (ended, has_ended) = tokio::sync::oneshot::channel();
        lifecycle.tracker.spawn(async move {
            soft.cancelled().await;
            tokio::task::yield_now().await;
            ended.send(()).expect("listener");
        });
        lifecycle.soft.cancel();
        assert!(lifecycle.stopped(Duration::from_secs(60)).await);
        has_ended.await.expect("the task ended before the stop did");
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_do_not_leave_in_time_are_stopped_hard() {
        let lifecycle = Lifecycle::new();
        let hard = lifecycle.hard.clone();
        lifecycle.tracker.spawn(async move { hard.cancelled().await });
        lifecycle.soft.cancel();
        assert!(!lifecycle.stopped(Duration::from_secs(30)).await);
        assert!(lifecycle.tracker.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_deaf_to_the_hard_stop_does_not_hold_the_process() {
        let lifecycle = Lifecycle::new();
        lifecycle.tracker.spawn(std::future::pending::<()>());
        lifecycle.soft.cancel();
        assert!(!lifecycle.stopped(Duration::from_secs(30)).await);
        assert_eq!(lifecycle.tracker.len(), 1);
    }

    #[tokio::test]
    async fn reloads_melt_into_one_notice() {
        let lifecycle = Lifecycle::new();
        let mut reloads = lifecycle.reloads();
        lifecycle.ask_to_reload();
        lifecycle.ask_to_reload();
        reloads.changed().await.expect("notice");
        assert!(!reloads.has_changed().expect("open"));
    }

    #[test]
    fn the_pid_file_goes_with_its_owner() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("bobolink.pid");
        let file = PidFile::write(&path).expect("pid file");
        let written = fs::read_to_string(&path).expect("text");
        assert_eq!(written, format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());

        let error = PidFile::write(folder.path()).expect_err("a folder").to_string();
        assert!(error.starts_with("pid_file: cannot write "), "{error}");
    }

    proptest! {
        #[test]
        fn every_connection_leaves_before_the_window_ends(
            place in prop_oneof![0.0..=1.0, any::<f64>()],
            window in 0_u64..600_000,
        ) {
            let window = Duration::from_millis(window);
            let delay = drain_delay(place, window);
            prop_assert!(delay <= window);
            prop_assert!(window.is_zero() || delay < window);
        }

        #[test]
        fn connections_leave_evenly_in_the_order_of_their_places(total in 1_u32..10_000) {
            let window = Duration::from_secs(10);
            let at = |index| drain_delay(f64::from(index) / f64::from(total), window);
            let step = at(1);
            for index in 1..total {
                let gap = at(index) - at(index - 1);
                prop_assert!(gap <= step + Duration::from_micros(1));
                prop_assert!(gap + Duration::from_micros(1) >= step);
            }
        }
    }
}
