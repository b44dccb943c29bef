//! What the tests of the running gateway share: the process, tokens for it, HTTP, and waiting.

mod archive;
mod even;
mod http;
pub mod replica_set;
mod server;

use std::time::Duration;

use bobolink::auth::issue;
use bobolink::time::Clock;

pub use self::archive::{recovering, verified, verify};
pub use self::even::assert_even;
pub use self::http::{Answer, get, http, http_bytes};
pub use self::replica_set::ReplicaSet;
pub use self::server::{OPEN, SECRET, Server};

/// Longer than anything takes that works, on a busy machine too; no test waits for it to pass.
pub const SOON: Duration = Duration::from_secs(20);

/// How often a condition that nothing announces is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A connection token for `user`, signed with the key that every test's gateway has.
pub fn token(user: &str) -> String {
    token_signed_with(SECRET, user)
}

/// A connection token for `user`, signed with another key.
pub fn token_signed_with(secret: &str, user: &str) -> String {
    issue::connection_token(secret, user, Some(3_600), now())
}

/// A connection token for `user` that was valid until a minute ago.
pub fn expired_token(user: &str) -> String {
    issue::connection_token(SECRET, user, Some(60), now() - 120)
}

fn now() -> i64 {
    Clock::real().unix_seconds()
}

/// Looks at a condition again and again until it holds; panics with `what` when it does not in time.
pub async fn eventually(what: &str, within: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let looking = async {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        // A look that takes long is followed by a pause all the same. Without it whatever else is polled
        // with this would wait for many looks in a row.
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if holds().await {
                return;
            }
        }
    };
    if tokio::time::timeout(within, looking).await.is_err() {
        panic!("not within {within:?}: {what}");
    }
}
