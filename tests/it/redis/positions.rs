//! The check of positions at a tick, by a gateway that hears everything a moment late.

use std::time::Duration;

use bobolink::client::Client;
use bobolink::time::Clock;

use super::gateways::gateway;
use super::process::{RedisServer, settings_of};
use super::tap::{Lost, Tap};
use crate::support::{SOON, Server};

/// Later than a tick is away, and well within [`GRANTED`].
const LATE: Duration = Duration::from_millis(150);
/// What is granted to publications on their way, at least.
const GRANTED: Duration = Duration::from_secs(1);
/// A machine that stood still may use that up, and is asked again so many times.
const TRIES: usize = 10;
/// Every tick checks, and nobody but ticks does: canaries have patience.
const CHECKED: &str = "
client.presence_update_interval = \"50ms\"
client.channel_position_check_delay = \"1ms\"
health.canary_timeout = \"10m\"
health.lb_grace = \"20m\"
";

/// The data of the next publication, or the code with which the subscription ends.
async fn next(client: &mut Client) -> Result<String, u32> {
    loop {
        let push = client.push(SOON).await.expect("a push");
        if let Some(unsubscribe) = push.unsubscribe {
            return Err(unsubscribe.code);
        }
        if let Some(publication) = push.publication {
            return Ok(String::from_utf8(publication.data.to_vec()).expect("text"));
        }
    }
}

/// Publishes until something comes, late as it is. To be told instead that something is missing is right
/// where time stood still, and only after what is granted.
async fn comes_late(other: &Server, subscriber: &mut Client, number: usize) {
    let (mut bob, clock) = (other.connected("bob").await, Clock::real());
    for again in 0..TRIES {
        let (data, published) = (format!("{number}.{again}"), clock.now());
        bob.publish("chat:a", data.clone()).await.expect("published");
        match next(subscriber).await {
            Ok(seen) => return assert_eq!(seen, data),
            Err(code) => assert_eq!(code, 2500),
        }
        let passed = clock.now() - published;
        assert!(passed >= GRANTED, "given up after {passed:?}");
        subscriber.subscribe("chat:a").await.expect("subscribed");
    }
    panic!("given up {TRIES} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_at_a_tick_is_waited_for_and_what_does_not_come_is_missed() {
    let redis = RedisServer::start();
    let tap = Tap::to(redis.address()).await;
    let late = format!("{}{CHECKED}", settings_of(tap.address));
    let (late, other) = (gateway(&late).await, gateway(&redis.settings()).await);
    let mut ann = late.subscribed("ann", "chat:a").await;
    let mut bob = other.connected("bob").await;
    tap.lose(Lost::Time(LATE));
    // Between what is in the stream and what has come there is a tick, or three.
    for number in 0..15 {
        comes_late(&other, &mut ann, number).await;
    }
    tap.lose(Lost::Messages);
    bob.publish("chat:a", "-1").await.expect("published");
    assert_eq!(next(&mut ann).await, Err(2500));
}
