//! The REST service of a running gateway: pages, cursors, permissions, deletion, export.

use bobolink::auth::issue;
use bobolink::time::Clock;
use hyper::Method;
use serde_json::{Value, json};

use super::{KEY, publish_many, settings};
use crate::support::{Answer, SECRET, Server, http, token};

const MESSAGES: &str = "/history/v1/channels/long:a/messages";

/// Lets users read `open:*` as clients and `subs:*` as subscribers.
const MORE: &str = "
[[channel.namespaces]]
name = \"open\"
history_archive = true
history_size = 10
history_ttl = \"60s\"
allow_history_for_client = true
[[channel.namespaces]]
name = \"subs\"
history_archive = true
history_size = 10
history_ttl = \"60s\"
allow_history_for_subscriber = true
[[channel.namespaces]]
name = \"brief\"
history_size = 10
history_ttl = \"60s\"
";

async fn start(folder: &tempfile::TempDir) -> Server {
    Server::start(&(settings(folder, "") + MORE)).await
}

async fn ask(server: &Server, path: &str) -> Value {
    let answer = http(server.address(), Method::GET, path, &[("x-api-key", KEY)], "").await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    serde_json::from_str(&answer.body).expect("JSON")
}

async fn remove(server: &Server, path: &str) -> (u16, Value) {
    let answer = http(server.address(), Method::DELETE, path, &[("x-api-key", KEY)], "").await;
    (answer.status, serde_json::from_str(&answer.body).expect("JSON"))
}

fn offsets(page: &Value) -> Vec<u64> {
    let messages = page["messages"].as_array().expect("messages");
    messages.iter().map(|message| message["offset"].as_u64().expect("an offset")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_lead_through_all_messages_and_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&folder).await;
    publish_many(&server, "long:a", 1..=25).await;
    for (order, expected) in
        [("newest", (1..=25).rev().collect::<Vec<_>>()), ("oldest", (1..=25).collect())]
    {
        let path = format!("{MESSAGES}?limit=10&order={order}");
        let (mut forward, mut pages, mut next) = (Vec::new(), Vec::new(), Value::Null);
        loop {
            let cursor = next.as_str().map_or(String::new(), |next| format!("&cursor={next}"));
            let page = ask(&server, &format!("{path}{cursor}")).await;
            forward.extend(offsets(&page));
            next = page["next_cursor"].clone();
            pages.push(page);
            if next.is_null() {
                break;
            }
        }
        assert_eq!(forward, expected, "{order}");
        let back = pages[2]["prev_cursor"].as_str().expect("a cursor");
        let second = ask(&server, &format!("{path}&cursor={back}")).await;
        assert_eq!(offsets(&second), offsets(&pages[1]), "{order}");
        assert_eq!(second["messages"], pages[1]["messages"], "{order}");
    }
    // Whoever has the newest page can ask for what came since.
    let page = ask(&server, &format!("{MESSAGES}?limit=5")).await;
    let newer = format!("{MESSAGES}?cursor={}", page["prev_cursor"].as_str().expect("a cursor"));
    let nothing = ask(&server, &newer).await;
    assert_eq!(offsets(&nothing), [0; 0]);
    publish_many(&server, "long:a", 26..=27).await;
    let again = format!("{MESSAGES}?cursor={}", nothing["prev_cursor"].as_str().expect("a cursor"));
    assert_eq!(offsets(&ask(&server, &again).await), [27, 26]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_goes_on_whatever_is_published_and_deleted_meanwhile() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&folder).await;
    publish_many(&server, "long:a", 1..=60).await;
    for order in ["newest", "oldest"] {
        let all = offsets(&ask(&server, &format!("{MESSAGES}?limit=100&order={order}")).await);
        assert!(all.len() > 40, "{all:?}");
        let first = ask(&server, &format!("{MESSAGES}?limit=1&order={order}")).await;
        let (mut seen, mut gone) = (offsets(&first), Vec::new());
        let top = first["position"]["offset"].as_u64().expect("an offset");
        let mut next = first["next_cursor"].clone();
        while let Some(cursor) = next.as_str() {
            // The message that the cursor names goes, and the second behind it.
            let edge = *seen.last().expect("one");
            let second = if order == "newest" { edge.saturating_sub(2) } else { edge + 2 };
            for offset in [edge, second] {
                let range = format!("{MESSAGES}?from_offset={offset}&to_offset={offset}");
                assert_eq!(remove(&server, &range).await.0, 200);
            }
            gone.push(second);
            publish_many(&server, "long:a", 1..=1).await;
            let path = format!("{MESSAGES}?limit=7&order={order}&cursor={cursor}");
            let page = ask(&server, &path).await;
            seen.extend(offsets(&page).into_iter().filter(|offset| *offset <= top));
            next = page["next_cursor"].clone();
        }
        let expected = all.into_iter().filter(|offset| !gone.contains(offset));
        assert_eq!(seen, expected.collect::<Vec<_>>(), "{order}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_listed_to_the_end_whatever_their_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&folder).await;
    let names = ["long:a", "long:a&cursor=b", "long:a#1,2", "long:a+b", "long:ü/%2F"];
    for name in names {
        publish_many(&server, name, 1..=1).await;
    }
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page =
            ask(&server, &format!("/history/v1/channels?prefix=long:&limit=2{cursor}")).await;
        let channels = page["channels"].as_array().expect("channels");
        found.extend(channels.iter().map(|c| c["channel"].as_str().expect("a name").to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let mut expected = names.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_all_that_was_published_and_the_id_before_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&folder).await;
    let tagged = json!({ "channel": "long:a", "data": { "n": 1 }, "tags": { "k": "v" } });
    super::call(server.address(), "publish", &tagged).await.expect("published");
    publish_many(&server, "long:a", 2..=3).await;
    let page = ask(&server, MESSAGES).await;
    let messages = page["messages"].as_array().expect("messages");
    let (third, first) = (&messages[0], &messages[2]);
    assert_eq!(third["data"], json!({ "n": 3 }));
    assert_eq!((&third["prev"], &first["prev"]), (&messages[1]["id"], &Value::Null));
    assert_eq!((&first["channel"], &first["tags"]), (&json!("long:a"), &json!({ "k": "v" })));
    assert_eq!(page["position"], json!({ "epoch": third["epoch"], "offset": 3 }));
    let id: u64 = third["id"].as_str().expect("a text").parse().expect("a number");
    assert_eq!((id >> 20) as i64, third["time"].as_i64().expect("a time"));

    let channel = ask(&server, "/history/v1/channels/long:a").await;
    assert_eq!((&channel["count"], &channel["last"]), (&json!(3), third));
    assert_eq!(channel["first"]["offset"], json!(1));
    let list = ask(&server, "/history/v1/channels?prefix=long:").await;
    assert_eq!(list["channels"], json!([channel]));
    let never = ask(&server, "/history/v1/channels/long:never/messages").await;
    assert_eq!((offsets(&never), &never["position"]["offset"]), (vec![], &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_begin_at_offsets_times_ids_and_around_a_message() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&folder).await;
    publish_many(&server, "long:a", 1..=20).await;
    let all = ask(&server, &format!("{MESSAGES}?order=oldest")).await;
    let id = |n: usize| all["messages"][n - 1]["id"].as_str().expect("an id").to_owned();
    for (query, expected) in [
        ("before_offset=4".into(), vec![3, 2, 1]),
        ("after_offset=17&order=oldest".into(), vec![18, 19, 20]),
        (format!("after_id={}&before_id={}", id(3), id(6)), vec![5, 4]),
        ("before_time=1000".into(), vec![]),
        ("after_time=99999999999999".into(), vec![]),
    ] {
        assert_eq!(
            offsets(&ask(&server, &format!("{MESSAGES}?{query}")).await),
            expected,
            "{query}"
        );
    }
    let around = ask(&server, &format!("{MESSAGES}/around/{}?limit=5", id(10))).await;
    assert_eq!(offsets(&around), [12, 11, 10, 9, 8]);
    let next = around["next_cursor"].as_str().expect("a cursor");
    let on = ask(&server, &format!("{MESSAGES}?limit=2&cursor={next}")).await;
    assert_eq!(offsets(&on), [7, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_messages_are_gone_from_pages_streams_and_recoveries_without_a_gap() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&folder).await;
    publish_many(&server, "long:a", 1..=8).await;
    let all = ask(&server, &format!("{MESSAGES}?order=oldest")).await;
    let third = all["messages"][2]["id"].as_str().expect("an id");
    assert_eq!(
        remove(&server, &format!("{MESSAGES}/{third}")).await,
        (200, json!({ "deleted": 1 }))
    );
    let (status, problem) = remove(&server, &format!("{MESSAGES}/{third}")).await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
    let range = format!("{MESSAGES}?from_offset=5&to_offset=6");
    assert_eq!(remove(&server, &range).await.1, json!({ "deleted": 2 }));
    assert_eq!(offsets(&ask(&server, MESSAGES).await), [8, 7, 4, 2, 1]);
    let request = json!({ "channel": "long:a", "limit": -1 });
    let hot = super::call(server.address(), "history", &request).await.expect("history");
    let hot = hot["publications"].as_array().expect("publications");
    let hot: Vec<_> = hot.iter().map(|p| p["offset"].as_u64().unwrap_or_default()).collect();
    assert_eq!(hot, [1, 2, 4, 7, 8]);
    let gone = remove(&server, "/history/v1/channels/long:a").await;
    assert_eq!(gone, (200, json!({ "deleted": 5 })));
    publish_many(&server, "long:a", 9..=9).await;
    assert_eq!(offsets(&ask(&server, MESSAGES).await), [9], "offsets go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_read_what_they_may_read_on_a_connection_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&folder).await;
    for channel in ["open:a", "subs:a"] {
        publish_many(&server, channel, 1..=2).await;
    }
    let now = Clock::real().unix_seconds();
    let of_channel = |channel| issue::subscription_token(SECRET, "ann", channel, Some(60), now);
    let subscription = of_channel("subs:a");
    let foreign = of_channel("subs:b");
    let bearer = format!("Bearer {}", token("ann"));
    let other = format!("Bearer {}", token("bob"));
    let authorization = |value| ("authorization", value);
    let subscriber = ("x-subscription-token", subscription.as_str());
    for (channel, headers, status) in [
        ("open:a", vec![authorization(bearer.as_str())], 200),
        ("open:a", vec![], 401),
        ("open:a", vec![authorization("Bearer nonsense")], 401),
        ("open:a", vec![("x-api-key", "wrong")], 401),
        ("subs:a", vec![authorization(bearer.as_str())], 403),
        ("subs:a", vec![authorization(bearer.as_str()), subscriber], 200),
        ("subs:a", vec![subscriber], 200),
        ("subs:a", vec![authorization(other.as_str()), subscriber], 403),
        ("subs:a", vec![("x-subscription-token", foreign.as_str())], 403),
        ("long:a", vec![authorization(bearer.as_str())], 403),
        ("brief:a", vec![("x-api-key", KEY)], 404),
        ("nowhere:a", vec![("x-api-key", KEY)], 404),
        ("nowhere:a", vec![authorization(bearer.as_str())], 404),
    ] {
        for end in ["/messages", "", "/export"] {
            let path = format!("/history/v1/channels/{channel}{end}");
            let answer = http(server.address(), Method::GET, &path, &headers, "").await;
            assert_eq!(answer.status, status, "{path} {headers:?}: {}", answer.body);
        }
    }
    let headers = [authorization(bearer.as_str())];
    for (method, path) in [
        (Method::GET, "/history/v1/channels"),
        (Method::DELETE, "/history/v1/channels/open:a"),
        (Method::DELETE, "/history/v1/channels/open:a/messages?from_offset=1&to_offset=2"),
        (Method::DELETE, "/history/v1/channels/open:a/messages/1"),
    ] {
        let answer = http(server.address(), method, path, &headers, "").await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&folder).await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("cursor=%20", "cursor"),
        ("before_offset=-1", "before_offset"),
        ("after_time=soon", "after_time"),
        ("after_id=9223372036854775808", "after_id"),
        ("after_id=1&after_time=1", "after_id"),
        ("epoch=other", "epoch"),
    ] {
        let path = format!("{MESSAGES}?{query}");
        let answer = http(server.address(), Method::GET, &path, &[("x-api-key", KEY)], "").await;
        let problem: Value = serde_json::from_str(&answer.body).expect("JSON");
        let seen = (answer.status, &problem["code"], &problem["field"]);
        assert_eq!(seen, (400, &json!("bad_request"), &json!(field)), "{query}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    for (method, path, status, code, field) in [
        (Method::GET, "/history/v1/channels?cursor=long:a", 400, "bad_request", json!("cursor")),
        (Method::GET, "/history/v1/channels/%FF/messages", 400, "bad_request", json!("channel")),
        (
            Method::DELETE,
            "/history/v1/channels/long:a/export",
            405,
            "method_not_allowed",
            json!(null),
        ),
        (Method::GET, "/history/v1/nothing", 404, "not_found", json!(null)),
    ] {
        let answer = http(server.address(), method, path, &[("x-api-key", KEY)], "").await;
        let problem: Value = serde_json::from_str(&answer.body).expect("JSON");
        let seen = (answer.status, &problem["code"], &problem["field"]);
        assert_eq!(seen, (status, &json!(code), &field), "{path}");
        assert_eq!(problem["status"], json!(status));
    }
    for (query, field) in [("lmit=3", "lmit"), ("limit=1&limit=2", "limit")] {
        let path = format!("{MESSAGES}?{query}");
        let answer = http(server.address(), Method::GET, &path, &[("x-api-key", KEY)], "").await;
        let problem: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!((answer.status, &problem["field"]), (400, &json!(field)), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_tagged_compressed_and_readable_for_allowed_pages() {
    let folder = tempfile::tempdir().expect("a folder");
    let origins = "client.allowed_origins = [\"https://app.example\"]";
    let server = Server::start(&settings(&folder, origins)).await;
    publish_many(&server, "long:a", 1..=50).await;
    let get = async |headers: &[(&str, &str)]| {
        let headers = [&[("x-api-key", KEY)], headers].concat();
        raw(&server, MESSAGES, &headers).await
    };
    let (head, plain) = get(&[("origin", "https://app.example")]).await;
    assert_eq!(head.headers["access-control-allow-origin"], "https://app.example");
    let tag = head.headers["etag"].to_str().expect("a text").to_owned();
    assert_eq!(get(&[("if-none-match", tag.as_str())]).await.0.status, 304);
    let (head, packed) = get(&[("accept-encoding", "br, gzip")]).await;
    assert_eq!(head.headers["content-encoding"], "gzip");
    assert!(packed.len() < plain.len() / 2, "{} of {}", packed.len(), plain.len());
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed[..]), &mut unpacked)
        .expect("gzip");
    assert_eq!(unpacked, plain);
    let of_packed = head.headers["etag"].to_str().expect("a text").to_owned();
    assert!(of_packed != tag && !of_packed.starts_with("W/"), "{of_packed} and {tag}");
    let known = [("accept-encoding", "gzip"), ("if-none-match", of_packed.as_str())];
    assert_eq!(get(&known).await.0.status, 304);
    assert_eq!(get(&[("origin", "https://evil.example")]).await.0.status, 403);
    publish_many(&server, "long:a", 51..=51).await;
    assert_eq!(get(&[("if-none-match", tag.as_str())]).await.0.status, 200);

    let asked = [("origin", "https://app.example"), ("access-control-request-method", "DELETE")];
    let preflight = http(server.address(), Method::OPTIONS, MESSAGES, &asked, "").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.headers["access-control-allow-methods"], "GET, DELETE, OPTIONS");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_every_message_once_and_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&folder).await;
    publish_many(&server, "long:a", 1..=1_234).await;
    let path = "/history/v1/channels/long:a/export";
    for encoding in ["identity", "gzip"] {
        let headers = [("x-api-key", KEY), ("accept-encoding", encoding)];
        let (head, body) = raw(&server, path, &headers).await;
        assert_eq!(head.headers["content-type"], "application/x-ndjson");
        let mut text = String::new();
        match encoding {
            "gzip" => {
                std::io::Read::read_to_string(
                    &mut flate2::read::GzDecoder::new(&body[..]),
                    &mut text,
                )
                .expect("gzip");
            }
            _ => text = String::from_utf8(body).expect("text"),
        }
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 1_234);
        for (index, line) in lines.iter().enumerate() {
            assert_eq!(line["data"]["n"], json!(index + 1));
            let prev =
                index.checked_sub(1).map_or(Value::Null, |before| lines[before]["id"].clone());
            assert_eq!(line["prev"], prev, "line {index}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_names_every_path_that_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&folder).await;
    let answer = crate::support::get(server.address(), "/history/openapi.json").await;
    let description: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(description["servers"][0]["url"], json!("/history"));
    let paths: Vec<_> = description["paths"].as_object().expect("paths").keys().collect();
    assert_eq!(paths.len(), 6, "{paths:?}");
    let listing = &description["paths"]["/v1/channels/{channel}/messages"]["get"];
    let limit = &listing["parameters"].as_array().expect("parameters")[1]["schema"];
    assert_eq!((&limit["minimum"], &limit["maximum"]), (&json!(1), &json!(100)), "{limit}");
    assert!(listing["responses"]["304"].is_object() && listing["responses"]["default"].is_object());
    let keys = description["components"]["securitySchemes"].as_object().expect("what opens it");
    assert_eq!(keys["api_key"]["name"], json!("X-API-Key"));
    for path in paths {
        let path = path.replace("{channel}", "long:a").replace("{id}", "1");
        let answer = http(server.address(), Method::GET, &format!("/history{path}"), &[], "").await;
        assert!(matches!(answer.status, 401 | 405), "{path}: {}", answer.status);
    }
}

/// An answer whose body need not be text.
async fn raw(server: &Server, path: &str, headers: &[(&str, &str)]) -> (Answer, Vec<u8>) {
    crate::support::http_bytes(server.address(), Method::GET, path, headers).await
}
