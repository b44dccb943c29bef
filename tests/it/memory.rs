//! What an idle connection costs.

use bobolink::client::Client;
use futures_util::StreamExt;
use futures_util::stream;

use crate::support::{OPEN, Server};

/// Bytes of resident memory per connection, in the server's process.
const MOST: u64 = 8 * 1_024;
/// Connections made before the first look, so that what is allocated once is there.
const FIRST: usize = 200;
const COUNTED: usize = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_with_a_subscription_costs_at_most_8_kib() {
    let server = Server::start(OPEN).await;
    let first = connections(&server, 0..FIRST).await;
    let before = server.resident_bytes();
    let counted = connections(&server, FIRST..FIRST + COUNTED).await;
    let after = server.resident_bytes();
    let each = after.saturating_sub(before) / counted.len() as u64;
    println!("{each} bytes per idle connection with one subscription");
    assert_eq!(first.len() + counted.len(), FIRST + COUNTED);
    assert!(each <= MOST, "{each} bytes per connection, at most {MOST}");
}

/// Connections that are each subscribed to a channel of their own.
async fn connections(server: &Server, numbers: std::ops::Range<usize>) -> Vec<Client> {
    stream::iter(numbers)
        .map(|number| async move {
            server.subscribed(&format!("user-{number}"), &format!("channel-{number}")).await
        })
        .buffer_unordered(16)
        .collect()
        .await
}
