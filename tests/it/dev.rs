//! What is open with `--dev`, and shut without it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use bobolink::client::{Client, Error};
use hyper::Method;
use hyper::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::{SOON, Server, get, http, token};

/// No settings but the port: what a user has who starts the program for the first time.
const NOTHING: &str = "http_server.address = \"\"\nclient.token.hmac_secret_key = \"\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn without_dev_everything_is_shut() {
    let server = Server::start("").await;
    let address = server.address();
    assert_eq!(get(address, "/").await.status, 404);
    assert_eq!(ask_for_token(address).await.status, 404);
    for path in ["/health", "/metrics", "/swagger/", "/playground/bobolink.js", "/chat/", "/chat"] {
        assert_eq!(get(address, path).await.status, 404, "{path}");
    }
    assert_eq!(http(address, Method::POST, "/api/info", &[], "{}").await.status, 404);
    let off = |line: &Value| {
        line["message"].as_str().is_some_and(|message| message.contains("server API is off"))
    };
    let line = server.log().wait_for(off).await;
    assert_eq!(line["level"], "WARN");
    assert!(line["message"].as_str().is_some_and(|message| message.contains("http_api.key")));
    assert!(!server.folder().join(".bobolink").exists());

    let from_a_page = server.endpoint().origin("http://localhost:8000").expect("an origin");
    let refused = Client::open(&from_a_page).await;
    assert!(matches!(refused, Err(Error::Status(status)) if status == 403), "{refused:?}");
    let refused = server.open().await.connect("").await;
    assert!(matches!(refused, Err(Error::Closed(close)) if close.code == Some(3501)));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_dev_no_channel_can_be_used() {
    let server = Server::start("").await;
    let mut client = server.connected("ann").await;
    let refusal = |refused: Result<(), Error>| match refused {
        Err(Error::Refused(error)) => error.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(client.subscribe("news").await.map(drop)), 103);
    assert_eq!(refusal(client.subscribe("dev:news").await.map(drop)), 102);
    assert_eq!(refusal(client.publish("news", "{}").await), 103);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_dev_a_page_gets_a_token_and_connects() {
    let server = Server::start_with(NOTHING, &["--dev"]).await;
    let address = server.address();
    let page = get(address, "/").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.headers[CONTENT_TYPE], "text/html; charset=utf-8");
    let policy = page.headers["content-security-policy"].to_str().expect("text");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for path in ["/playground/bobolink.js", "/chat/", "/health/ready", "/metrics", "/swagger/"] {
        assert_eq!(get(address, path).await.status, 200, "{path}");
    }

    let answer = ask_for_token(address).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer: Value = serde_json::from_str(&answer.body).expect("JSON");
    let token = answer["token"].as_str().expect("a token");
    for host in ["127.0.0.1", "localhost"] {
        let origin = format!("http://{host}:{}", address.port());
        let endpoint = server.endpoint().origin(&origin).expect("an origin");
        let mut client = Client::open(&endpoint).await.expect("its own page may connect");
        client.connect(token).await.expect("connected");
        client.subscribe("dev:room").await.expect("subscribed");
        client.publish("dev:room", "{\"hello\":1}").await.expect("published");
        let (channel, publication) = client.publication(SOON).await.expect("the publication");
        assert_eq!((channel.as_str(), &publication.data[..]), ("dev:room", &b"{\"hello\":1}"[..]));
        assert_eq!(publication.info.expect("its publisher").user, "ada");
    }
    let elsewhere = server.endpoint().origin("http://example.org").expect("an origin");
    let refused = Client::open(&elsewhere).await;
    assert!(matches!(refused, Err(Error::Status(status)) if status == 403), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_dev_a_wrong_request_for_a_token_is_told_what_is_expected() {
    let server = Server::start_with(NOTHING, &["--dev"]).await;
    let wrong = http(server.address(), Method::POST, "/dev/token", &[], "{}").await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.contains("{\"user\": \"name\"}"), "{}", wrong.body);
    for ttl in ["0", "3601", "-1", "\"x\""] {
        let request = format!("{{\"user\":\"ada\",\"ttl\":{ttl}}}");
        let wrong = http(server.address(), Method::POST, "/dev/token", &[], &request).await;
        assert_eq!(wrong.status, 400, "{ttl}");
        assert!(wrong.body.contains("1 to 3600 seconds"), "{}", wrong.body);
    }
    let large = "x".repeat(10_000);
    let large = http(server.address(), Method::POST, "/dev/token", &[], &large).await;
    assert_eq!(large.status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_dev_a_token_may_be_asked_for_that_expires_sooner() {
    let server = Server::start_with(NOTHING, &["--dev"]).await;
    let request = "{\"user\":\"ada\",\"ttl\":7}";
    let answer = http(server.address(), Method::POST, "/dev/token", &[], request).await;
    let answer: Value = serde_json::from_str(&answer.body).expect("JSON");
    let token = answer["token"].as_str().expect("a token");
    let reply = server.open().await.connect(token).await.expect("connected");
    assert!(reply.expires && reply.ttl <= 7, "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_dev_the_chat_has_rooms_with_history_and_words_for_the_moment() {
    let server = Server::start_with(NOTHING, &["--dev"]).await;
    let address = server.address();
    let moved = get(address, "/chat").await;
    assert_eq!(
        (moved.status, &moved.headers["location"]),
        (308, &"/chat/".parse().expect("a value"))
    );
    let answer: Value = serde_json::from_str(&ask_for_token(address).await.body).expect("JSON");
    let mut client = server.open().await;
    client.connect(answer["token"].as_str().expect("a token")).await.expect("connected");
    // Before it subscribes, as an outbox does.
    client.publish("dev-chat:lobby", "{\"text\":\"hello\"}").await.expect("published");
    let room = client.subscribe("dev-chat:lobby").await.expect("subscribed");
    assert!(room.recoverable && room.offset == 1, "{room:?}");
    let bearer = format!("Bearer {}", answer["token"].as_str().expect("a token"));
    let path = "/history/v1/channels/dev-chat:lobby/messages";
    let page = http(address, Method::GET, path, &[("authorization", &bearer)], "").await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(page.body.contains("\"text\":\"hello\""), "{}", page.body);
    let typing = client.subscribe("dev-typing:lobby").await.expect("subscribed");
    assert!(!typing.recoverable, "{typing:?}");
    client.publish("dev-typing:lobby", "{\"typing\":true}").await.expect("published");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_dev_the_history_of_the_chat_is_in_the_ignored_folder_unless_told_otherwise() {
    let server = Server::start_with(NOTHING, &["--dev"]).await;
    assert!(server.folder().join(".bobolink/history.db").exists());
    assert!(!server.folder().join("bobolink-history.db").exists());

    let elsewhere = format!("{NOTHING}history.path = \"elsewhere.db\"\n");
    let server = Server::start_with(&elsewhere, &["--dev"]).await;
    assert!(server.folder().join("elsewhere.db").exists());
    assert!(!server.folder().join(".bobolink/history.db").exists());

    let own = format!("{NOTHING}[[channel.namespaces]]\nname = \"dev-chat\"\n");
    let server = Server::start_with(&own, &["--dev"]).await;
    assert!(!server.folder().join(".bobolink/history.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_dev_secrets_are_kept_for_their_owner_alone_and_never_logged() {
    let server = Server::start_with(NOTHING, &["--dev"]).await;
    let folder = server.folder().join(".bobolink");
    let file = folder.join("dev-secrets.json");
    let mode = |path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));
    let ignored = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.gitignore"));
    assert!(ignored.expect("a file").lines().any(|line| line == ".bobolink/"));

    let kept: Value = serde_json::from_slice(&fs::read(&file).expect("a file")).expect("JSON");
    let log = server.log().lines().join("\n");
    for secret in ["token_hmac_secret_key", "api_key"] {
        let secret = kept[secret].as_str().expect("a secret");
        assert!(secret.len() >= 32, "{} letters", secret.len());
        assert!(!log.contains(secret));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_dev_the_port_is_open_to_this_machine_only() {
    let server = Server::start_with(NOTHING, &["--dev"]).await;
    assert!(server.address().ip().is_loopback());
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], server.address().port()));
    assert!(TcpStream::connect(elsewhere).await.is_err(), "it listens on all addresses");

    let settings = NOTHING.replace("address = \"\"", "address = \"0.0.0.0\"");
    let (status, told) = Server::fails_to_start(&settings, &["--dev"]).await;
    assert!(!status.success());
    assert!(told.contains("--dev") && told.contains("http_server.address"), "{told}");

    let internal = "http_server.internal_address = \"0.0.0.0\"\n";
    let (status, told) = Server::fails_to_start(internal, &["--dev"]).await;
    assert!(!status.success());
    assert!(told.contains("--dev") && told.contains("http_server.internal_address"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_dev_nobody_is_warned_of_keys_that_it_provides() {
    let server = Server::start_with(NOTHING, &["--dev"]).await;
    let warnings = server.log().count(|line| line["level"] == "WARN");
    assert_eq!(warnings, 0, "{:?}", server.log().lines());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_dev_a_key_of_the_settings_is_used_where_there_is_one() {
    let server = Server::start_with("http_server.address = \"\"\n", &["--dev"]).await;
    let mut client = server.open().await;
    client.connect(&token("ann")).await.expect("connected");
}

async fn ask_for_token(address: SocketAddr) -> crate::support::Answer {
    http(address, Method::POST, "/dev/token", &[], "{\"user\":\"ada\"}").await
}
