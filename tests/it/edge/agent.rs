//! What HAProxy learns from a node's agent, and what it does with it.

use rustix::process::Signal;

use super::balancer::{Balancer, NodePorts};
use super::crowd::open;
use crate::support::{OPEN, SOON, eventually, get};

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_on_request_keeps_clients_and_sends_new_ones_elsewhere_until_it_is_over() {
    let nodes = [NodePorts::choose(), NodePorts::choose()];
    let (one, _two) = tokio::join!(nodes[0].start(OPEN), nodes[1].start(OPEN));
    let balancer = Balancer::start(&nodes, &[]).await;
    balancer.uses("gateway-1").await;
    balancer.uses("gateway-2").await;
    let mut early = open(&balancer, 40).await;
    let sessions = async |server: &str| balancer.server("gateways", server).await.number("scur");
    let before = sessions("gateway-1").await;
    assert!(before > 0, "nobody is on the first node");

    one.signal(Signal::USR1);
    eventually("it is not ready", SOON, async || {
        get(nodes[0].internal_address(), "/health/ready").await.status == 503
    })
    .await;
    // Its checks fail as well after a while: readiness is red. Either keeps new ones away.
    eventually("haproxy sends it nobody", SOON, async || {
        let status = balancer.server("gateways", "gateway-1").await;
        !status.get("status").starts_with("UP")
    })
    .await;
    let _late = open(&balancer, 10).await;
    assert_eq!(sessions("gateway-1").await, before, "the old ones stay, and nobody comes");
    // They work.
    for client in &mut early {
        client.publish("news", "1").await.expect("published");
    }

    one.signal(Signal::USR2);
    balancer.uses("gateway-1").await;
    assert_eq!(get(nodes[0].internal_address(), "/health/ready").await.status, 200);
    let mut later = Vec::new();
    eventually("it gets clients again", SOON, async || {
        later.extend(open(&balancer, 5).await);
        sessions("gateway-1").await > before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fuller_node_has_less_weight() {
    let nodes = [NodePorts::choose(), NodePorts::choose()];
    let limited = format!("{OPEN}client.connection_limit = 20\n");
    let _one = nodes[0].start(&limited).await;
    let balancer = Balancer::start(&nodes, &[]).await;
    balancer.uses("gateway-1").await;
    let _clients = open(&balancer, 10).await;
    // At most: a machine that is busy takes more off.
    eventually("half of its places are left", SOON, async || {
        (1..=50).contains(&balancer.server("gateways", "gateway-1").await.number("weight"))
    })
    .await;
}
