//! Puts the sources together: defaults, then the file, then variables, then flags.

use std::collections::BTreeMap;
use std::io;

use super::report::{ConfigError, ConfigErrors, Files, Notice, Report};
use super::setting::Setting;
use super::tree::{Origin, Tree};
use super::{Config, Key, dotenv, file, unsupported, validate, variables};

/// Files that are looked for when none is named; the first that is there counts.
pub const DEFAULT_FILES: [&str; 2] = ["config.toml", "config.json"];

/// Variables of this file count where the environment has none.
const DOTENV: &str = ".env";

/// Where settings may come from, besides the files themselves.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file that was asked for; none for one of [`DEFAULT_FILES`].
    pub file: Option<String>,
    /// The environment.
    pub variables: BTreeMap<String, String>,
    /// Flags by dotted name.
    pub flags: BTreeMap<String, String>,
}

/// A configuration fit to run with.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// What the operator should know.
    pub notices: Vec<Notice>,
    /// The file that was read, if there was one.
    pub file: Option<String>,
}

/// The files of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &str) -> io::Result<String> {
        std::fs::read_to_string(path)
    }
}

impl Sources {
    /// These with the environment of the process. Variables that are not Unicode are left out.
    pub fn of_process(file: Option<String>, flags: BTreeMap<String, String>) -> Self {
        let text = |text: std::ffi::OsString| text.into_string().ok();
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?)));
        Self { file, variables: variables.collect(), flags }
    }
}

/// Reads and checks the configuration. A named file must be there; a default one may be missing.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(sources: &Sources, files: &dyn Files) -> Result<Loaded, ConfigErrors> {
    let mut config = Config::default();
    let keys = Config::all_keys();
    let known: Vec<String> = keys.iter().map(|key| key.path.clone()).collect();
    let mut early = Vec::new();
    let variables = environment(sources, files, &mut early);
    let mut report = Report::new(&known, files);
    report.errors = early;

    let file = config_file(sources, files, &mut report).map(|(name, tree)| {
        config.read(tree, "", &mut report);
        name
    });
    variables::apply(&mut config, &variables, &keys, &mut report);
    apply_flags(&mut config, &sources.flags, &keys, &mut report);
    validate::check(&config, &mut report);
    unsupported::check(&config, &mut report);

    if report.errors.is_empty() {
        Ok(Loaded { config, notices: report.notices, file })
    } else {
        Err(ConfigErrors(report.errors))
    }
}

/// The environment, and below it what `.env` says.
fn environment(
    sources: &Sources,
    files: &dyn Files,
    errors: &mut Vec<ConfigError>,
) -> BTreeMap<String, String> {
    let mut refuse = |line, message: String| {
        let origin = Origin::File { name: DOTENV.into(), line };
        errors.push(ConfigError { key: String::new(), message, origin });
    };
    let mut variables = BTreeMap::new();
    match files.read(DOTENV).map(|text| dotenv::parse(&text)) {
        Ok(Ok(given)) => variables = given,
        Ok(Err(line)) => refuse(Some(line), "expected NAME=value".into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => refuse(None, format!("cannot be read: {error}")),
    }
    variables.extend(sources.variables.clone());
    variables
}

fn config_file(
    sources: &Sources,
    files: &dyn Files,
    report: &mut Report<'_>,
) -> Option<(String, Tree)> {
    let candidates = match &sources.file {
        Some(name) => vec![name.as_str()],
        None => DEFAULT_FILES.to_vec(),
    };
    for name in candidates {
        let parsed = match files.read(name) {
            Ok(text) => file::parse(name, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && sources.file.is_none() => {
                continue;
            }
            Err(error) => Err(ConfigError {
                key: String::new(),
                message: format!("cannot be read: {error}"),
                origin: Origin::File { name: name.into(), line: None },
            }),
        };
        match parsed {
            Ok(tree) => return Some((name.to_owned(), tree)),
            Err(error) => {
                report.errors.push(error);
                return None;
            }
        }
    }
    None
}

fn apply_flags(
    config: &mut Config,
    flags: &BTreeMap<String, String>,
    keys: &[Key],
    report: &mut Report<'_>,
) {
    for (name, value) in flags {
        let origin = Origin::Flag(name.as_str().into());
        if keys.iter().any(|key| key.path == *name) {
            config.read(variables::nested(name, Tree::loose(value, origin)), "", report);
        } else {
            report.refuse(name, "there is no such setting", origin);
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::report::NoticeKind;

    /// A machine without files.
    pub struct NoFiles;

    impl Files for NoFiles {
        fn read(&self, _: &str) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    /// Files that are nowhere but here.
    #[derive(Default)]
    pub struct FakeFiles(pub BTreeMap<String, String>);

    impl Files for FakeFiles {
        fn read(&self, path: &str) -> io::Result<String> {
            self.0.get(path).cloned().ok_or(io::ErrorKind::NotFound.into())
        }
    }

    /// The one file `name`, asked for.
    pub fn from_file(name: &str, text: &str) -> (Sources, FakeFiles) {
        let sources = Sources { file: Some(name.into()), ..Sources::default() };
        (sources, FakeFiles([(name.to_owned(), text.to_owned())].into()))
    }

    fn map<const N: usize>(entries: [(&str, &str); N]) -> BTreeMap<String, String> {
        entries.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn from_variables<const N: usize>(entries: [(&str, &str); N]) -> Result<Loaded, ConfigErrors> {
        load(&Sources { variables: map(entries), ..Sources::default() }, &NoFiles)
    }

    fn errors(result: Result<Loaded, ConfigErrors>) -> Vec<String> {
        result.expect_err("has errors").0.iter().map(ToString::to_string).collect()
    }

    fn notices(loaded: &Loaded, kind: NoticeKind) -> Vec<&str> {
        let of_kind = loaded.notices.iter().filter(|notice| notice.kind == kind);
        of_kind.map(|notice| notice.text.as_str()).collect()
    }

    #[test]
    fn later_sources_win_over_earlier_ones() {
        let (mut sources, mut files) = from_file(
            "c.toml",
            "[http_server]\nport = 1\naddress = \"a\"\ninternal_port = 1\ninternal_address = \"a\"",
        );
        files.0.insert(
            ".env".into(),
            "BOBOLINK_HTTP_SERVER_ADDRESS=b\nBOBOLINK_HTTP_SERVER_INTERNAL_PORT=2\nBOBOLINK_HTTP_SERVER_PORT=2"
                .into(),
        );
        sources.variables =
            map([("BOBOLINK_HTTP_SERVER_PORT", "3"), ("BOBOLINK_HTTP_SERVER_INTERNAL_PORT", "3")]);
        sources.flags = map([("http_server.port", "4")]);
        let server = load(&sources, &files).expect("valid").config.http_server;
        assert_eq!(server.internal_address, "a", "from the file");
        assert_eq!(server.address, "b", "from .env");
        assert_eq!(server.internal_port, Some(3), "from a variable");
        assert_eq!(server.port, 4, "from a flag");
    }

    #[test]
    fn a_named_file_must_exist_and_a_default_one_need_not() {
        let named = Sources { file: Some("c.toml".into()), ..Sources::default() };
        let found = errors(load(&named, &NoFiles));
        assert!(found[0].starts_with("c.toml: cannot be read"), "{found:?}");
        let loaded = load(&Sources::default(), &NoFiles).expect("valid");
        assert_eq!((loaded.config, loaded.file), (Config::default(), None));
    }

    #[test]
    fn of_the_default_files_the_first_counts() {
        let toml = ("config.toml", "pid_file = 'toml'");
        let json = ("config.json", "{\"pid_file\": \"json\"}");
        let pid_file =
            |files| load(&Sources::default(), &FakeFiles(files)).expect("valid").config.pid_file;
        assert_eq!(pid_file(map([toml, json])), "toml");
        assert_eq!(pid_file(map([json])), "json");
    }

    #[test]
    fn variables_have_their_own_spelling_of_every_type() {
        let config = from_variables([
            ("BOBOLINK_HEALTH_ENABLED", "T"),
            ("BOBOLINK_CLIENT_CHANNEL_LIMIT", "7"),
            ("BOBOLINK_CLIENT_PING_INTERVAL", "1m30s"),
            ("BOBOLINK_CLIENT_ALLOWED_ORIGINS", " https://a.example  https://b.example "),
            ("BOBOLINK_WEBSOCKET_MESSAGE_SIZE_LIMIT", "1MiB"),
            ("BOBOLINK_CLIENT_TOKEN_HMAC_SECRET_KEY", "s"),
            ("BOBOLINK_ENGINE_TYPE", "memory"),
            ("BOBOLINK_CLIENT_PONG_TIMEOUT", ""),
            ("BOBOLINK_CHANNEL_NAMESPACES", r#"[{"name": "a-b.c", "history_size": 5}]"#),
            ("BOBOLINK_CHANNEL_NAMESPACES_A_B_C_HISTORY_TTL", "5s"),
            ("BOBOLINK_CHANNEL_NAMESPACES_A_B_C_PRESENCE", "1"),
        ])
        .expect("valid")
        .config;
        assert!(config.health.enabled);
        assert_eq!(config.client.channel_limit, 7);
        assert_eq!(config.client.ping_interval, Duration::from_secs(90));
        assert_eq!(config.client.allowed_origins, ["https://a.example", "https://b.example"]);
        assert_eq!(config.websocket.message_size_limit, 1 << 20);
        assert_eq!(config.client.token.hmac_secret_key.expose(), "s");
        assert_eq!(config.client.pong_timeout, Duration::from_secs(8), "empty is unset");
        let [namespace] = &config.channel.namespaces[..] else { panic!("one namespace") };
        assert_eq!(namespace.name, "a-b.c");
        assert_eq!(namespace.options.history_size, 5);
        assert_eq!(namespace.options.history_ttl, Duration::from_secs(5));
        assert!(namespace.options.presence);
    }

    #[test]
    fn a_variable_reaches_into_the_namespaces_of_the_file() {
        let text =
            "[[channel.namespaces]]\nname = 'chat'\n[[channel.namespaces]]\nname = 'chat_log'";
        let (mut sources, files) = from_file("c.toml", text);
        sources.variables = map([("BOBOLINK_CHANNEL_NAMESPACES_CHAT_LOG_PRESENCE", "true")]);
        let namespaces = load(&sources, &files).expect("valid").config.channel.namespaces;
        let presence: Vec<_> = namespaces.iter().map(|ns| ns.options.presence).collect();
        assert_eq!(presence, [false, true]);
    }

    #[test]
    fn variables_of_centrifugo_count_below_ours_and_are_announced_once() {
        let loaded = from_variables([
            ("CENTRIFUGO_HTTP_SERVER_PORT", "1"),
            ("CENTRIFUGO_PID_FILE", "theirs"),
            ("CENTRIFUGO_NODE_NAME", "theirs"),
            ("CENTRIFUGO_VAR_X", "x"),
            ("BOBOLINK_HTTP_SERVER_PORT", "2"),
        ])
        .expect("valid");
        assert_eq!(loaded.config.http_server.port, 2);
        assert_eq!(loaded.config.pid_file, "theirs");
        let announced = notices(&loaded, NoticeKind::CentrifugoVariables);
        let [announced] = announced[..] else { panic!("one notice, not {announced:?}") };
        assert!(announced.ends_with("CENTRIFUGO_NODE_NAME, CENTRIFUGO_PID_FILE"), "{announced}");
        assert_eq!(notices(&loaded, NoticeKind::UnknownVariable), [""; 0]);
    }

    #[test]
    fn what_is_unknown_is_ignored_with_a_hint() {
        let text = "tokn = 1\n[client]\nping_intervall = \"1s\"\n[[channel.namespaces]]\nname = \"chat\"\nhistory_sise = 1";
        let (mut sources, files) = from_file("c.toml", text);
        sources.variables =
            map([("BOBOLINK_HTTP_API_KYE", "x"), ("BOBOLINK_XYZ", "1"), ("OTHER", "1")]);
        let loaded = load(&sources, &files).expect("valid");
        assert_eq!(
            notices(&loaded, NoticeKind::UnknownKey),
            [
                "unknown key channel.namespaces[0](chat).history_sise (c.toml line 6) is ignored, did you mean channel.namespaces[].history_size?",
                "unknown key client.ping_intervall (c.toml line 3) is ignored, did you mean client.ping_interval?",
                "unknown key tokn (c.toml line 1) is ignored",
            ]
        );
        assert_eq!(
            notices(&loaded, NoticeKind::UnknownVariable),
            [
                "unknown variable BOBOLINK_HTTP_API_KYE is ignored, did you mean BOBOLINK_HTTP_API_KEY?",
                "unknown variable BOBOLINK_XYZ is ignored",
            ]
        );
    }

    #[test]
    fn all_errors_come_at_once_with_key_value_source_and_what_is_allowed() {
        let text = "[http_server]\nport = 70000\n[log]\nlevel = \"loud\"\n[client]\nping_interval = \"5\"\ntoken = 3\nallowed_origins = [1]\n";
        let (mut sources, files) = from_file("c.toml", text);
        sources.variables = map([
            ("BOBOLINK_HEALTH_ENABLED", "yes"),
            ("CENTRIFUGO_CHANNEL_NAMESPACES", "chat"),
            ("BOBOLINK_WEBSOCKET_MESSAGE_SIZE_LIMIT", "64 kilos"),
        ]);
        sources.flags = map([("engine.type", "disk")]);
        assert_eq!(
            errors(load(&sources, &files)),
            [
                "client.allowed_origins: a list is not allowed, expected a list of texts (c.toml line 8)",
                "client.ping_interval: \"5\" is not allowed, expected a duration such as \"500ms\", \"25s\" or \"1h30m\" (c.toml line 6)",
                "client.token: a value is not allowed, expected a table (c.toml line 7)",
                "http_server.port: 70000 is not allowed, expected an integer from 0 to 65535 (c.toml line 2)",
                "log.level: \"loud\" is not allowed, expected one of \"trace\", \"debug\", \"info\", \"warn\", \"error\", \"fatal\", \"none\" (c.toml line 4)",
                "channel.namespaces: expected a list of tables (in a variable: as JSON) (variable CENTRIFUGO_CHANNEL_NAMESPACES)",
                "health.enabled: \"yes\" is not allowed, expected true or false (variable BOBOLINK_HEALTH_ENABLED)",
                "websocket.message_size_limit: \"64 kilos\" is not allowed, expected a number of bytes, or text such as \"64KiB\" (variable BOBOLINK_WEBSOCKET_MESSAGE_SIZE_LIMIT)",
                "engine.type: \"disk\" is not allowed, expected one of \"memory\", \"redis\" (flag --engine.type)",
            ]
        );
    }

    #[test]
    fn no_error_quotes_a_secret() {
        let text = "[client.token]\nhmac_secret_key = 31337\nrsa_public_key = \"hunter2\"\n[http_api]\nkey = [\"31337\"]\n[http_server.tls]\nenabled = true\nkey_pem = \"hunter2\"\n";
        let (sources, files) = from_file("c.toml", text);
        let found = errors(load(&sources, &files));
        assert_eq!(found.len(), 5, "{found:#?}");
        assert!(!found.iter().any(|e| e.contains("31337") || e.contains("hunter2")), "{found:#?}");
    }

    #[test]
    fn a_pem_may_be_raw_base64_or_a_path() {
        let pem = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
        let in_base64 =
            "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KQUFBQQotLS0tLUVORCBQVUJMSUMgS0VZLS0tLS0K";
        let on_one_line = pem.replace('\n', "\\n");
        for given in [pem, in_base64, "key.pem", &on_one_line] {
            let sources = Sources {
                variables: map([("BOBOLINK_CLIENT_TOKEN_RSA_PUBLIC_KEY", given)]),
                ..Sources::default()
            };
            let files = FakeFiles(map([("key.pem", pem)]));
            let config = load(&sources, &files).expect("valid").config;
            assert_eq!(config.client.token.rsa_public_key.text(), Some(pem), "{given}");
        }
    }

    #[test]
    fn a_broken_dotenv_is_an_error_and_not_half_read() {
        let files = FakeFiles(map([(".env", "A=1\nnonsense\n")]));
        assert_eq!(errors(load(&Sources::default(), &files)), [".env line 2: expected NAME=value"]);
    }

    #[test]
    fn numbers_and_booleans_of_a_file_may_stand_in_quotes() {
        let text = r#"{"http_server": {"port": "8001", "internal_port": "9001"},
            "client": {"channel_limit": "7"}, "health": {"enabled": "true"}}"#;
        let (sources, files) = from_file("c.json", text);
        let config = load(&sources, &files).expect("valid").config;
        assert_eq!((config.http_server.port, config.client.channel_limit), (8001, 7));
        assert_eq!(config.http_server.internal_port, Some(9001));
        assert!(config.health.enabled);
        let (sources, files) = from_file("c.json", r#"{"client": {"channel_limit": "7 or so"}}"#);
        assert_eq!(errors(load(&sources, &files)).len(), 1);
    }

    #[test]
    fn null_in_a_file_is_unset() {
        let (sources, files) = from_file("c.json", r#"{"pid_file": null, "client": null}"#);
        assert_eq!(load(&sources, &files).expect("valid").config, Config::default());
    }
}
