//! TLS on the port for clients, and the internal port with what is for operators.

use std::sync::Arc;

use bobolink::client::{Client, Endpoint};
use hyper::Method;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::{OPEN, SOON, Server, eventually, get, http, token};

const OPERATORS: &str = "
http_server.internal_port = 0
health.enabled = true
prometheus.enabled = true
http_api.key = \"an-api-key\"
";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_connects_over_tls_and_only_so() {
    let (root, tls) = certificate();
    let settings = format!("{OPEN}{OPERATORS}http_server.tls_external = true\n{tls}");
    let server = Server::start(&settings).await;
    let address = format!("wss://localhost:{}/connection/websocket", server.address().port());
    let endpoint = Endpoint::new(&address).expect("an address");
    for endpoint in [endpoint.clone(), endpoint.protobuf()] {
        let stream = secured(&server, &root).await.expect("TLS");
        let mut client = Client::open_on(stream, &endpoint).await.expect("a WebSocket");
        client.connect(&token("ann")).await.expect("connected");
        client.subscribe("news").await.expect("subscribed");
        // Larger than a record of TLS, and than the server's buffers.
        let data = format!("\"{}\"", "x".repeat(60_000));
        client.publish("news", data.clone()).await.expect("published");
        assert_eq!(client.publication(SOON).await.expect("the publication").1.data, data);
        client.close().await.expect("closed");
    }

    let mut plain = TcpStream::connect(server.address()).await.expect("a connection");
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "plain HTTP is answered on the TLS port");

    let internal = server.address_of("internal").await;
    assert_eq!(get(internal, "/health").await.status, 200, "tls_external: this one is plain");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_brings_a_new_certificate_and_keeps_connections() {
    let (old_root, old) = certificate();
    let server = Server::start(&format!("{OPEN}{old}")).await;
    let address = format!("wss://localhost:{}/connection/websocket", server.address().port());
    let endpoint = Endpoint::new(&address).expect("an address");
    let stream = secured(&server, &old_root).await.expect("TLS");
    let mut client = Client::open_on(stream, &endpoint).await.expect("a WebSocket");
    client.connect(&token("ann")).await.expect("connected");

    let (new_root, new) = certificate();
    server.write_settings(&format!("{OPEN}{new}"));
    server.signal(Signal::HUP);
    eventually("the new certificate is shown", SOON, async || {
        secured(&server, &new_root).await.is_ok()
    })
    .await;
    secured(&server, &old_root).await.expect_err("the old certificate is not shown any more");
    client.subscribe("news").await.expect("the connection goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_internal_port_has_what_is_for_operators_and_the_main_port_has_not() {
    let server = Server::start(&format!("{OPERATORS}swagger.enabled = true\n")).await;
    let internal = server.address_of("internal").await;
    for path in ["/health", "/health/live", "/health/ready", "/metrics", "/swagger/"] {
        assert_eq!(get(internal, path).await.status, 200, "{path}");
        assert_eq!(get(server.address(), path).await.status, 404, "{path}");
    }
    let key = [("x-api-key", "an-api-key")];
    let info = async |address| http(address, Method::POST, "/api/info", &key, "{}").await.status;
    assert_eq!(info(internal).await, 200);
    assert_eq!(info(server.address()).await, 404);
    assert_eq!(get(internal, "/connection/websocket").await.status, 404);
    server.connected("ann").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_internal_port_all_is_on_the_main_one() {
    let server = Server::start("health.enabled = true\nprometheus.enabled = true\n").await;
    for path in ["/health", "/metrics"] {
        assert_eq!(get(server.address(), path).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_speaks_tls_where_the_node_does() {
    let (_, tls) = certificate();
    let server = Server::start(&format!("health.enabled = true\n{tls}")).await;
    for (question, path) in [("live", "/health/live"), ("delivery", "/health/delivery")] {
        let port = server.address().port().to_string();
        let args = ["healthcheck", "--for", question, "--http_server.port", &port];
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bobolink"));
        let output = command.args(args).current_dir(server.folder()).output();
        let output = tokio::time::timeout(SOON, output).await.expect("in time").expect("it runs");
        let told = format!("https://127.0.0.1:{port}{path}: ok\n");
        assert_eq!(String::from_utf8_lossy(&output.stdout), told, "{output:?}");
        assert!(output.status.success());
    }
}

/// A new certificate for `localhost`, and the settings that use it.
pub fn certificate() -> (CertificateDer<'static>, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (cert_pem, key_pem) = (cert.pem(), signing_key.serialize_pem());
    let settings = format!(
        "[http_server.tls]\nenabled = true\n\
         cert_pem = \"\"\"{cert_pem}\"\"\"\nkey_pem = \"\"\"{key_pem}\"\"\"\n"
    );
    (cert.der().clone(), settings)
}

/// A TLS connection, if the server shows a certificate that `root` stands for.
pub async fn secured(
    server: &Server,
    root: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.address()).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}
