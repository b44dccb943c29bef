//! Rules that one value alone cannot break, and values that are more than their type.

use std::collections::BTreeSet;
use std::time::Duration;

use globset::GlobBuilder;
use regex::Regex;

use super::engine::EngineType;
use super::report::Report;
use super::setting::join;
use super::shutdown::Shutdown;
use super::tls::Tls;
use super::token::Token;
use super::values::item_path;
use super::{ChannelOptions, Config, health, history, redis};

/// Reports everything in `config` that does not go together.
pub fn check(config: &Config, report: &mut Report<'_>) {
    check_listeners(config, report);
    check_paths(config, report);
    check_client(config, report);
    check_token(&config.client.token, "client.token", report);
    let subscription_token = config.client.subscription_token.token();
    check_token(&subscription_token, "client.subscription_token", report);
    check_channels(config, report);
    check_personal_channel(config, report);
    check_shutdown(config, report);
    if !matches(r"^[a-zA-Z_][a-zA-Z0-9_]*$", &config.prometheus.prefix) {
        let message = "must be letters, digits and _, and not start with a digit";
        report.fault(&["prometheus.prefix"], message);
    }
    health::check(&config.health, report);
    if config.engine.r#type == EngineType::Redis {
        redis::check(&config.engine.redis, config.client.presence_update_interval, report);
        health::advise(&config.health, &config.engine.redis, report);
    }
    history::check(config, report);
    advise(config, report);
}

fn check_listeners(config: &Config, report: &mut Report<'_>) {
    let server = &config.http_server;
    for (tls, at) in
        [(&server.tls, "http_server.tls"), (&server.internal_tls, "http_server.internal_tls")]
    {
        check_tls(tls, at, report);
    }
    if server.tls_external && server.internal().is_none() {
        let keys = ["http_server.tls_external", "http_server.internal_port"];
        report.fault(&keys, "needs an http_server.internal_port different from http_server.port");
    }
    if server.proxy_protocol && server.trusted_proxies.is_empty() {
        let keys = ["http_server.proxy_protocol", "http_server.trusted_proxies"];
        report.fault(&keys, "needs http_server.trusted_proxies, or nobody could connect");
    }
}

fn check_shutdown(config: &Config, report: &mut Report<'_>) {
    let Shutdown { timeout, drain_delay, drain_window } = config.shutdown;
    if drain_window >= timeout {
        let keys = ["shutdown.drain_window", "shutdown.timeout"];
        report.fault(&keys, "must be shorter than shutdown.timeout");
    } else if drain_delay.saturating_add(drain_window) >= timeout {
        let keys = ["shutdown.drain_delay", "shutdown.drain_window", "shutdown.timeout"];
        let message = "must together with shutdown.drain_window be shorter than shutdown.timeout";
        report.fault(&keys, message);
    }
}

fn check_tls(tls: &Tls, at: &str, report: &mut Report<'_>) {
    if !tls.enabled {
        return;
    }
    let needed = [("cert_pem", &tls.cert_pem, true), ("key_pem", &tls.key_pem, true)];
    let optional = [
        ("server_ca_pem", &tls.server_ca_pem, false),
        ("client_ca_pem", &tls.client_ca_pem, false),
    ];
    for (key, pem, needed) in needed.into_iter().chain(optional) {
        if needed && pem.is_empty() {
            report.fault(&[&join(at, key)], format!("must be set when {at}.enabled is true"));
        } else if pem.is_broken() {
            report.fault(&[&join(at, key)], PEM_ALLOWED);
        }
    }
}

pub(super) const PEM_ALLOWED: &str =
    "expected PEM text, base64 of it, or the path of a readable PEM file";

fn check_paths(config: &Config, report: &mut Report<'_>) {
    let endpoints = [
        ("websocket.handler_prefix", !config.websocket.disabled, &config.websocket.handler_prefix),
        ("http_api.handler_prefix", !config.http_api.disabled, &config.http_api.handler_prefix),
        ("prometheus.handler_prefix", config.prometheus.enabled, &config.prometheus.handler_prefix),
        ("health.handler_prefix", config.health.enabled, &config.health.handler_prefix),
        ("history.handler_prefix", config.archives(), &config.history.handler_prefix),
        ("swagger.handler_prefix", config.swagger.enabled, &config.swagger.handler_prefix),
    ];
    let mut taken: Vec<(&str, &str)> = Vec::new();
    for (key, _, path) in endpoints.iter().filter(|(_, enabled, _)| *enabled) {
        if !path.starts_with('/') {
            report.fault(&[key], format!("{path:?} is not allowed, expected a path from /"));
        } else if let Some((other, _)) = taken.iter().find(|(_, used)| used == path) {
            report.fault(&[key, other], format!("{path:?} is already used by {other}"));
        }
        taken.push((key, path));
    }
}

fn check_client(config: &Config, report: &mut Report<'_>) {
    let client = &config.client;
    if !client.ping_interval.is_zero() && client.pong_timeout >= client.ping_interval {
        let keys = ["client.pong_timeout", "client.ping_interval"];
        report.fault(&keys, "must be shorter than client.ping_interval");
    }
    let positive = [
        ("client.channel_limit", client.channel_limit > 0),
        ("client.queue_max_size", client.queue_max_size > 0),
        ("client.history_max_publication_limit", client.history_max_publication_limit > 0),
        ("client.recovery_max_publication_limit", client.recovery_max_publication_limit > 0),
        ("client.presence_update_interval", !client.presence_update_interval.is_zero()),
        ("client.stale_close_delay", !client.stale_close_delay.is_zero()),
        ("websocket.message_size_limit", config.websocket.message_size_limit > 0),
        ("channel.max_length", config.channel.max_length > 0),
    ];
    for (key, _) in positive.iter().filter(|(_, positive)| !positive) {
        report.fault(&[key], "0 is not allowed, expected a limit");
    }
    check_write_delay(client.write_delay, "client.write_delay", report);
    let level = config.websocket.compression_level;
    if !(-2..=9).contains(&level) {
        let why = format!("{level} is not allowed, expected -2 to 9");
        report.fault(&["websocket.compression_level"], why);
    }
    for (index, pattern) in client.allowed_origins.iter().enumerate() {
        if let Err(error) = GlobBuilder::new(pattern).build() {
            let at = format!("client.allowed_origins[{index}]");
            report.fault(&[&at], format!("not a valid pattern: {error}"));
        }
    }
    if !matches(r"^[-!#$%&'*+.^_`|~0-9A-Za-z]*$", &client.user_id_http_header) {
        report.fault(&["client.user_id_http_header"], "not a name of an HTTP header");
    }
}

/// A longer wait than this is no longer one that nobody notices.
const MAX_WRITE_DELAY: Duration = Duration::from_secs(1);

fn check_write_delay(delay: Duration, key: &str, report: &mut Report<'_>) {
    if delay > MAX_WRITE_DELAY {
        report.fault(&[key], format!("{delay:?} is not allowed, expected at most 1s"));
    }
}

fn check_token(token: &Token, at: &str, report: &mut Report<'_>) {
    for (plain, regex, pattern) in [
        ("audience", "audience_regex", &token.audience_regex),
        ("issuer", "issuer_regex", &token.issuer_regex),
    ] {
        let given = if plain == "audience" { &token.audience } else { &token.issuer };
        let (plain, regex) = (join(at, plain), join(at, regex));
        if !given.is_empty() && !pattern.is_empty() {
            report.fault(&[&regex, &plain], format!("cannot be set together with {plain}"));
        }
        check_regex(pattern, &regex, report);
    }
    for (key, pem) in
        [("rsa_public_key", &token.rsa_public_key), ("ecdsa_public_key", &token.ecdsa_public_key)]
    {
        if pem.is_broken() {
            report.fault(&[&join(at, key)], PEM_ALLOWED);
        }
    }
    if !matches(r"^[a-zA-Z_]*$", &token.user_id_claim) {
        report.fault(&[&join(at, "user_id_claim")], "may only hold letters and _");
    }
}

fn check_regex(pattern: &str, at: &str, report: &mut Report<'_>) {
    if let Err(error) = Regex::new(pattern) {
        report.fault(&[at], format!("not a valid regular expression: {}", last_line(&error)));
    }
}

/// What is wrong with a pattern, without the picture of where.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn check_channels(config: &Config, report: &mut Report<'_>) {
    let channel = &config.channel;
    check_options(&channel.without_namespace, "channel.without_namespace", config, report);
    let mut names = BTreeSet::new();
    for (index, namespace) in channel.namespaces.iter().enumerate() {
        let at = item_path("channel.namespaces", index, &namespace.name);
        let key = join(&at, "name");
        if !matches(r"^[-a-zA-Z0-9_.]{2,}$", &namespace.name) {
            let message = format!(
                "{:?} is not allowed, expected at least two letters, digits, -, _ or .",
                namespace.name
            );
            report.fault(&[&key], message);
        } else if !names.insert(&namespace.name) {
            report.fault(&[&key], "this name is taken by another namespace");
        }
        check_options(&namespace.options, &at, config, report);
    }
}

fn check_options(options: &ChannelOptions, at: &str, config: &Config, report: &mut Report<'_>) {
    let key = |name: &str| join(at, name);
    check_write_delay(options.write_delay, &key("write_delay"), report);
    let (size, ttl, meta_ttl) = (key("history_size"), key("history_ttl"), key("history_meta_ttl"));
    if (options.history_size > 0) == options.history_ttl.is_zero() {
        let (missing, given) = if options.history_size > 0 { (&ttl, &size) } else { (&size, &ttl) };
        let message = format!("must be above 0 when {given} is: history needs both");
        report.fault(&[missing, given], message);
    }
    for (path, value) in [(&ttl, options.history_ttl), (&meta_ttl, options.history_meta_ttl)] {
        if value.subsec_nanos() > 0 {
            report.fault(&[path], "must be in whole seconds");
        }
    }
    check_meta_ttl(options, &meta_ttl, &ttl, config, report);
    let history = options.history_size > 0 && !options.history_ttl.is_zero();
    if options.force_recovery && !history {
        let message = "needs history: set history_size and history_ttl";
        report.fault(&[&key("force_recovery"), &size, &ttl], message);
    }
    let cache = options.force_recovery_mode == super::channel::RecoveryMode::Cache;
    if options.auto_cache_recover && !(options.force_recovery && cache) {
        let keys =
            [&*key("auto_cache_recover"), &key("force_recovery"), &key("force_recovery_mode")];
        report.fault(&keys, "needs force_recovery and force_recovery_mode \"cache\"");
    }
    check_regex(&options.channel_regex, &key("channel_regex"), report);
}

/// Without a time of its own a namespace has that of all channels, which may then be at fault.
fn check_meta_ttl(
    options: &ChannelOptions,
    own: &str,
    ttl: &str,
    config: &Config,
    report: &mut Report<'_>,
) {
    let common = "channel.history_meta_ttl";
    let (at, value) = match options.history_meta_ttl {
        Duration::ZERO => (common, config.channel.history_meta_ttl),
        value => (own, value),
    };
    if value < options.history_ttl {
        report.fault(&[at, ttl], format!("must not be shorter than {ttl}"));
    }
}

fn check_personal_channel(config: &Config, report: &mut Report<'_>) {
    let personal = &config.client.subscribe_to_user_personal_channel;
    let at = "client.subscribe_to_user_personal_channel";
    if !personal.enabled {
        return;
    }
    let key = join(at, "personal_channel_namespace");
    let options = match personal.personal_channel_namespace.as_str() {
        "" => Some(&config.channel.without_namespace),
        name => {
            let named = config.channel.namespaces.iter().find(|namespace| namespace.name == name);
            named.map(|namespace| &namespace.options)
        }
    };
    match options {
        None => report.fault(&[&key], "there is no namespace of this name"),
        Some(options) if personal.single_connection && !options.presence => {
            let message = format!("needs presence in the namespace that {key} names");
            report.fault(&[&join(at, "single_connection")], message);
        }
        Some(_) => {}
    }
}

/// Settings that work and are easily not what was wanted.
fn advise(config: &Config, report: &mut Report<'_>) {
    let (client, api) = (&config.client, &config.http_api);
    if !api.disabled && !api.insecure && api.key.is_empty() {
        report.advise("http_api.key is not set: the server API is off");
    }
    let server = &config.http_server;
    if server.proxy_protocol && server.internal().is_none() {
        report.advise(
            "http_server.proxy_protocol without an http_server.internal_port: health, metrics and \
             the server API answer to http_server.trusted_proxies alone",
        );
    }
    if let Some(all) = server.trusted_proxies.iter().find(|network| network.prefix_len() == 0) {
        report.advise(format!(
            "http_server.trusted_proxies has {all}: everybody may claim any address"
        ));
    }
    let insecure = [
        ("client.insecure", client.insecure),
        (
            "client.insecure_skip_token_signature_verify",
            client.insecure_skip_token_signature_verify,
        ),
        ("http_api.insecure", api.insecure && !api.disabled),
    ];
    for (key, _) in insecure.iter().filter(|(_, on)| *on) {
        report.advise(format!("{key} is on: only for development, or behind a guard of your own"));
    }
    let token = &client.token;
    let no_key = token.hmac_secret_key.is_empty()
        && token.rsa_public_key.is_empty()
        && token.ecdsa_public_key.is_empty()
        && token.jwks_public_endpoint.is_empty();
    let no_way = no_key
        && client.user_id_http_header.is_empty()
        && !client.allow_anonymous_connect_without_token
        && !client.insecure
        && !client.insecure_skip_token_signature_verify;
    if no_way {
        report.advise("client.token has no key: no client can connect");
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
}

#[cfg(test)]
mod tests {
    use crate::config::load;
    use crate::config::load::tests::from_file;
    use crate::config::report::NoticeKind;

    fn errors(text: &str) -> Vec<String> {
        let (sources, files) = from_file("c.toml", text);
        match load(&sources, &files) {
            Ok(_) => Vec::new(),
            Err(errors) => {
                errors.0.iter().map(|error| format!("{}: {}", error.key, error.message)).collect()
            }
        }
    }

    /// Each of these files has exactly one fault, found at the key.
    #[test]
    fn every_rule_finds_its_breach() {
        let chat = |options: &str| format!("[[channel.namespaces]]\nname = \"chat\"\n{options}");
        let in_chat = |key: &str| format!("channel.namespaces[0](chat).{key}");
        let mongo = |line: &str| {
            let uri = if line.starts_with("uri") { "" } else { "uri = \"mongodb://a:1/\"\n" };
            format!("history.store = \"mongo\"\n[history.mongo]\n{uri}{line}")
        };
        let cases = [
            (chat("history_size = 1"), in_chat("history_ttl")),
            (chat("history_ttl = \"1s\""), in_chat("history_size")),
            (chat("history_size = 1\nhistory_ttl = \"1500ms\""), in_chat("history_ttl")),
            (chat("history_meta_ttl = \"1500ms\""), in_chat("history_meta_ttl")),
            (chat("write_delay = \"2s\""), in_chat("write_delay")),
            ("client.write_delay = \"1001ms\"".into(), "client.write_delay".into()),
            ("history.store = \"mongo\"".into(), "history.mongo.uri".into()),
            (mongo("uri = \"mongodb+srv://a/\""), "history.mongo.uri".into()),
            (mongo("database = \"a.b\""), "history.mongo.database".into()),
            (mongo("write_timeout = \"0s\""), "history.mongo.write_timeout".into()),
            ("websocket.compression_level = 10".into(), "websocket.compression_level".into()),
            (
                chat("history_size = 1\nhistory_ttl = \"2s\"\nhistory_meta_ttl = \"1s\""),
                in_chat("history_meta_ttl"),
            ),
            (
                chat("history_size = 1\nhistory_ttl = \"721h\""),
                "channel.history_meta_ttl".into(),
            ),
            (chat("force_recovery = true"), in_chat("force_recovery")),
            (
                chat("history_size = 1\nhistory_ttl = \"1s\"\nforce_recovery = true\nauto_cache_recover = true"),
                in_chat("auto_cache_recover"),
            ),
            (chat("allowed_delta_types = [\"xdelta\"]"), in_chat("allowed_delta_types")),
            (chat("channel_regex = \"(\""), in_chat("channel_regex")),
            (chat("subscription_type = \"queue\""), in_chat("subscription_type")),
            (
                "[channel.without_namespace]\nhistory_size = 1".into(),
                "channel.without_namespace.history_ttl".into(),
            ),
            (
                "[[channel.namespaces]]\nname = \"a\"".into(),
                "channel.namespaces[0](a).name".into(),
            ),
            ("[[channel.namespaces]]".into(), "channel.namespaces[0].name".into()),
            (
                format!("{}\n{}", chat(""), chat("")),
                "channel.namespaces[1](chat).name".into(),
            ),
            ("[client]\npong_timeout = \"25s\"".into(), "client.pong_timeout".into()),
            ("[client]\nchannel_limit = 0".into(), "client.channel_limit".into()),
            ("[client]\nallowed_origins = [\"a\", \"[\"]".into(), "client.allowed_origins[1]".into()),
            ("[client]\nuser_id_http_header = \"X User\"".into(), "client.user_id_http_header".into()),
            (
                "[client.token]\naudience = \"a\"\naudience_regex = \"b\"".into(),
                "client.token.audience_regex".into(),
            ),
            (
                "[client.subscription_token]\nissuer = \"a\"\nissuer_regex = \"b\"".into(),
                "client.subscription_token.issuer_regex".into(),
            ),
            ("[client.token]\nissuer_regex = \"(\"".into(), "client.token.issuer_regex".into()),
            ("[client.token]\nuser_id_claim = \"a1\"".into(), "client.token.user_id_claim".into()),
            ("[client.token]\nrsa_public_key = \"x\"".into(), "client.token.rsa_public_key".into()),
            ("[shutdown]\ndrain_window = \"30s\"".into(), "shutdown.drain_window".into()),
            ("[shutdown]\ndrain_delay = \"25s\"".into(), "shutdown.drain_delay".into()),
            (
                "[http_server]\nproxy_protocol = true".into(),
                "http_server.proxy_protocol".into(),
            ),
            (
                "[http_server]\ntrusted_proxies = [\"10.0.0.0/8\", \"haproxy\"]".into(),
                "http_server.trusted_proxies".into(),
            ),
            ("[prometheus]\nprefix = \"my-app\"".into(), "prometheus.prefix".into()),
            ("[http_api]\nhandler_prefix = \"api\"".into(), "http_api.handler_prefix".into()),
            (
                "[health]\nenabled = true\nhandler_prefix = \"/api\"".into(),
                "health.handler_prefix".into(),
            ),
            ("[http_server]\ntls_external = true".into(), "http_server.tls_external".into()),
            (
                "[client.subscribe_to_user_personal_channel]\nenabled = true\npersonal_channel_namespace = \"me\""
                    .into(),
                "client.subscribe_to_user_personal_channel.personal_channel_namespace".into(),
            ),
            (
                "[client.subscribe_to_user_personal_channel]\nenabled = true\nsingle_connection = true"
                    .into(),
                "client.subscribe_to_user_personal_channel.single_connection".into(),
            ),
        ];
        for (text, key) in cases {
            let found = errors(&text);
            let [only] = &found[..] else { panic!("{text}\n{found:#?}") };
            assert!(only.starts_with(&format!("{key}: ")), "{text}\n{only}");
        }
    }

    #[test]
    fn a_listener_with_tls_needs_certificate_and_key() {
        let found = errors("[http_server.internal_tls]\nenabled = true\ncert_pem = \"/nowhere\"");
        assert_eq!(
            found,
            [
                "http_server.internal_tls.cert_pem: expected PEM text, base64 of it, or the path of a readable PEM file",
                "http_server.internal_tls.key_pem: must be set when http_server.internal_tls.enabled is true",
            ]
        );
        assert_eq!(errors("[http_server.tls]\ncert_pem = \"/nowhere\""), [""; 0], "off");
    }

    #[test]
    fn a_value_that_cannot_be_read_brings_no_second_error_about_its_neighbours() {
        let found = errors(
            "[channel.without_namespace]\nhistory_size = 1\nhistory_ttl = \"x\"\nforce_recovery = true",
        );
        assert_eq!(found.len(), 1, "{found:#?}");
    }

    #[test]
    fn a_full_and_sound_configuration_passes() {
        let text = r#"
            [channel]
            namespaces = [{ name = "chat", presence = true, history_size = 10, history_ttl = "60s",
                history_meta_ttl = "60s", force_recovery = true, force_recovery_mode = "cache",
                auto_cache_recover = true, allowed_delta_types = ["fossil"], channel_regex = "^[a-z]+$" }]
            [client]
            ping_interval = "10s"
            pong_timeout = "9999ms"
            [client.subscribe_to_user_personal_channel]
            enabled = true
            personal_channel_namespace = "chat"
            single_connection = true
        "#;
        assert_eq!(errors(text), [""; 0]);
    }

    #[test]
    fn a_server_nobody_can_use_says_so() {
        let (sources, files) = from_file("c.toml", "[http_api]\ndisabled = false");
        let loaded = load(&sources, &files).expect("valid");
        let advice: Vec<_> =
            loaded.notices.iter().filter(|notice| notice.kind == NoticeKind::Advice).collect();
        assert_eq!(advice.len(), 2, "{advice:?}");
    }
}
