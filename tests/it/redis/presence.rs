//! Presence whose entries Redis lets expire one by one, as it can from 7.4 on.
//!
//! Where the server is older only what the script asks for is seen here: the command that it lacks is
//! written down instead of being run.

use bobolink::redis::Script;

use super::gateways::OPEN;
use super::process::RedisServer;
use crate::support::Server;

/// Stands before a script: writes `HEXPIRE` down in the list `asked`.
const WRITING_DOWN: &str = "
local real = redis
local redis = {call = function(name, ...)
    if name == 'hexpire' then
        return real.call('rpush', 'asked', table.concat({...}, ' '))
    end
    return real.call(name, ...)
end}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_cannot_let_fields_expire_is_refused_by_name() {
    let redis = RedisServer::start();
    let redis = match redis.ask(&["COMMAND", "INFO", "HEXPIRE"]).is_empty() {
        true => redis,
        // A newer one is made to forget it.
        false => RedisServer::start_with(&["--rename-command", "HEXPIRE", ""]),
    };
    let settings = redis.settings() + "engine.redis.presence_hash_field_ttl = true\n";
    let refused = Server::start(&format!("{settings}{OPEN}")).await;
    let line =
        refused.log().wait_for(|line| line["message"] == "cannot use Redis, trying on").await;
    let error = line["error"].as_str().expect("an error");
    assert!(error.contains("presence_hash_field_ttl needs HEXPIRE"), "{error}");
}

#[tokio::test]
async fn fields_expire_each_and_nothing_is_kept_beside_them() {
    let redis = RedisServer::start();
    let script = format!("{WRITING_DOWN}{}", Script::PresenceAdd.source());
    let add = |fields_expire: &str| {
        let keys = ["4", "expire", "data", "user.expire", "user.clients"];
        let options = ["60", "2000000000", "0", fields_expire];
        let clients = ["c1", "i1", "ann", "c2", "i2", "bob"];
        redis.ask(&[&["EVAL", &script], &keys[..], &options[..], &clients[..]].concat());
    };
    add("1");
    assert_eq!(
        redis.cli(&["LRANGE", "asked", "0", "-1"]),
        ["data 60 FIELDS 1 c1", "data 60 FIELDS 1 c2"]
    );
    assert_eq!((redis.ask(&["HLEN", "data"]), redis.ask(&["EXISTS", "expire"])), two("2", "0"));
    assert_eq!(redis.ask(&["TTL", "data"]), "60");
    add("0");
    assert_eq!(redis.ask(&["LLEN", "asked"]), "2", "not asked for");
    assert_eq!(redis.ask(&["ZCARD", "expire"]), "2");
}

fn two(first: &str, second: &str) -> (String, String) {
    (first.to_owned(), second.to_owned())
}
