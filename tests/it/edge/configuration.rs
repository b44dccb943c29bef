//! What haproxy.cfg says, checked by the program itself and against our own settings.

use std::fs;
use std::path::Path;

use bobolink::config::Client;
use hyper::Method;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::Value;

use super::balancer::{Balancer, CONFIG, NodePorts, haproxy, text};
use crate::support::{OPEN, SOON, Server, eventually, get, http};

/// The lines that say something, with single spaces.
fn directives(text: &str) -> Vec<String> {
    let said = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let spaced = said.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    spaced.filter(|line| !line.is_empty()).collect()
}

fn check(path: &Path) {
    let folder = tempfile::tempdir().expect("a folder");
    let nodes = [NodePorts::choose(), NodePorts::choose()];
    let mut command = haproxy(&nodes, [18_080, 18_081, 18_404], &folder);
    let output = command.args(["-c", "-dW", "-f"]).arg(path).output();
    let output = output.expect("haproxy: see scripts/setup");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}

#[test]
fn haproxy_takes_the_configuration_without_a_warning() {
    check(Path::new(CONFIG));
}

#[test]
fn the_tls_lines_of_the_comments_work_as_they_stand() {
    let folder = tempfile::tempdir().expect("a folder");
    let pair = generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let CertifiedKey { cert, signing_key } = pair;
    let site = folder.path().join("site.pem");
    fs::write(&site, cert.pem() + &signing_key.serialize_pem()).expect("a file");
    let (mut uncommented, mut text) = (0, text());
    for example in ["bind :443 ssl", "http-request redirect scheme https"] {
        uncommented += text.matches(&format!("#   {example}")).count();
        text = text.replace(&format!("#   {example}"), example);
    }
    assert_eq!(uncommented, 2);
    let path = folder.path().join("haproxy.cfg");
    let site = site.display().to_string();
    fs::write(&path, text.replace("/etc/haproxy/certs/site.pem", &site)).expect("a file");
    check(&path);
}

#[test]
fn every_directive_is_explained_and_every_variable_listed() {
    let text = text();
    // A directive stands below a comment, or below another that does.
    let mut explained = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        let is_section = ["global", "defaults", "frontend", "backend", "resolvers"]
            .iter()
            .any(|section| line.split(' ').next() == Some(section));
        match line {
            "" => explained = false,
            _ if line.starts_with('#') || is_section => explained = true,
            _ => assert!(explained, "line {number} stands without a word: {line}"),
        }
    }
    let head: Vec<_> = text.lines().take_while(|line| line.starts_with('#')).collect();
    let head = head.join("\n");
    for variable in text.split("${").skip(1).filter_map(|rest| rest.split(['-', '}']).next()) {
        let listed = variable.replace("GATEWAY_2_", "GATEWAY_1_");
        assert!(head.contains(&listed), "{variable} is not listed at the top");
    }
}

#[test]
fn timeouts_fit_the_ping_of_the_gateway() {
    let directives = directives(&text());
    let seconds = |name: &str| {
        let found = directives.iter().find_map(|line| line.strip_prefix(name));
        let found = found.and_then(|value| value.trim().strip_suffix('s')?.parse::<u64>().ok());
        found.unwrap_or_else(|| panic!("{name} in seconds"))
    };
    let client = Client::default();
    let silence = (client.ping_interval + client.pong_timeout).as_secs();
    assert!(seconds("timeout tunnel") > silence, "HAProxy would cut idle connections");
    assert!(seconds("timeout connect") <= 5);
    for name in ["timeout client-fin", "timeout server-fin", "timeout http-request"] {
        assert!(seconds(name) <= 30, "{name}");
    }
}

#[test]
fn connections_move_freely_and_are_never_cut_by_a_check() {
    let directives = directives(&text());
    for line in &directives {
        for forbidden in ["cookie", "stick on", "stick match", "shutdown-sessions", "hash-type"] {
            assert!(!line.contains(forbidden), "{line}");
        }
    }
    for needed in ["balance leastconn", "option httpchk GET /health/ready", "option redispatch 1"] {
        assert!(directives.iter().any(|line| line == needed), "{needed}");
    }
    let servers = directives.iter().find(|line| line.starts_with("default-server"));
    let servers = servers.expect("default-server");
    for needed in ["check", "agent-check", "send-proxy-v2"] {
        assert!(servers.split(' ').any(|word| word == needed), "{needed} in {servers}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_reach_their_endpoints_and_nothing_else_and_backends_the_api() {
    let nodes = [NodePorts::choose(), NodePorts::choose()];
    let settings = format!("{OPEN}http_api.key = \"a-key\"\nprometheus.enabled = true\n");
    let _one = nodes[0].start(&settings).await;
    let balancer = Balancer::start(&nodes, &[]).await;
    balancer.uses("gateway-1").await;
    balancer.sees("gateway-2", "DOWN").await;

    for path in ["/", "/api/info", "/metrics", "/health", "/swagger/"] {
        assert_eq!(get(balancer.clients(), path).await.status, 404, "{path}");
    }
    // No upgrade, but the node's own words.
    assert_eq!(get(balancer.clients(), "/connection/websocket").await.status, 426);

    let call = [("x-api-key", "a-key")];
    let answer = http(balancer.api(), Method::POST, "/api/info", &call, "{}").await;
    let info: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(answer.status, 200);
    assert!(info["result"]["nodes"].is_array(), "{info}");
    assert_eq!(get(balancer.api(), "/metrics").await.status, 404);
    assert_eq!(http(balancer.api(), Method::POST, "/api/info", &[], "{}").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_read_where_clients_are_and_deleted_from_where_backends_are() {
    let settings = "http_api.key = \"a-key\"\nhistory.address = \"127.0.0.1\"\nhistory.port = 0\n\
                    health.enabled = true\n\
                    channel.without_namespace.history_size = 10\n\
                    channel.without_namespace.history_ttl = \"60s\"\n\
                    channel.without_namespace.history_archive = true\n";
    let service = Server::start_command(settings, &["history"], "history").await;
    let port = service.address().port().to_string();
    let nodes = [NodePorts::choose(), NodePorts::choose()];
    let balancer = Balancer::start(&nodes, &[("HISTORY_1_PORT", &port)]).await;
    let path = "/history/openapi.json";
    eventually("HAProxy uses the service", SOON, async || {
        get(balancer.clients(), path).await.status == 200
    })
    .await;
    assert_eq!(get(balancer.api(), path).await.status, 200);
    let delete = async |address| {
        let path = "/history/v1/channels/none";
        http(address, Method::DELETE, path, &[("x-api-key", "a-key")], "").await.status
    };
    assert_eq!(delete(balancer.clients()).await, 405, "not from the world, whatever the key");
    assert_eq!(delete(balancer.api()).await, 200, "a backend");
}
