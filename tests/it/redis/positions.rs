//! The check of positions at a tick, by a gateway that hears everything a moment late.

use std::time::Duration;

use bobolink::client::Client;

use super::gateways::gateway;
use super::process::{RedisServer, settings_of};
use super::tap::{Lost, Tap};
use crate::support::SOON;

/// Later than a tick is away, and well within what is granted to publications on their way.
const LATE: Duration = Duration::from_millis(150);
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
        bob.publish("chat:a", number.to_string()).await.expect("published");
        assert_eq!(next(&mut ann).await, Ok(number.to_string()));
    }
    tap.lose(Lost::Messages);
    bob.publish("chat:a", "-1").await.expect("published");
    assert_eq!(next(&mut ann).await, Err(2500));
}
