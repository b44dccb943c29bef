//! Addresses of Redis as they are written: `host:port`, or a URL with options in its query.

use std::path::PathBuf;
use std::time::Duration;

use super::options::Place;
use crate::config::Secret;
use crate::config::units::parse_duration;

/// The port of Redis.
pub(super) const REDIS_PORT: u16 = 6_379;
/// The port of Sentinel.
pub(super) const SENTINEL_PORT: u16 = 26_379;

/// An address taken apart. What it does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    pub places: Vec<Place>,
    pub kind: Kind,
    pub tls: Option<bool>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub db: Option<u32>,
    pub connect_timeout: Option<Duration>,
    pub io_timeout: Option<Duration>,
    pub force_resp2: Option<bool>,
    pub sentinel_user: Option<String>,
    pub sentinel_password: Option<Secret>,
    pub sentinel_tls: Option<bool>,
    pub sentinel_master_name: Option<String>,
}

/// What stands at an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// Redis itself.
    #[default]
    Single,
    /// Sentinels that know where Redis is.
    Sentinel,
    /// Nodes of a cluster.
    Cluster,
}

/// An address that is none. Says what is allowed, and does not repeat what may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

impl Address {
    /// Reads `host`, `host:port` or a URL.
    ///
    /// # Errors
    /// Says which part is wrong, and what may stand there.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            let places = vec![place(text, REDIS_PORT)?];
            return Ok(Self { places, ..Self::default() });
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut address = match scheme {
            "unix" => Self::of_socket(rest)?,
            "redis" | "rediss" | "tcp" => Self::of_hosts(rest, REDIS_PORT)?,
            "redis+sentinel" | "rediss+sentinel" => {
                let hosts = Self::of_hosts(rest, SENTINEL_PORT)?;
                Self { kind: Kind::Sentinel, ..hosts }
            }
            "redis+cluster" | "rediss+cluster" => {
                Self { kind: Kind::Cluster, ..Self::of_hosts(rest, REDIS_PORT)? }
            }
            other => {
                return Err(AddressError(format!(
                    "the scheme {other:?} is not allowed, expected redis, rediss, redis+sentinel, \
                     rediss+sentinel, redis+cluster, rediss+cluster, tcp or unix"
                )));
            }
        };
        if scheme.starts_with("rediss") {
            address.tls = Some(true);
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            address.set(key, &decoded(value)?)?;
        }
        Ok(address)
    }

    fn of_hosts(rest: &str, port: u16) -> Result<Self, AddressError> {
        let mut address = Self::default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts = address.take_credentials(authority)?;
        address.places =
            hosts.split(',').map(|host| place(host, port)).collect::<Result<_, _>>()?;
        if !path.is_empty() {
            let number =
                path.parse().map_err(|_| error("the path must be the number of a database"));
            address.db = Some(number?);
        }
        Ok(address)
    }

    fn of_socket(rest: &str) -> Result<Self, AddressError> {
        let mut address = Self::default();
        let path = decoded(address.take_credentials(rest)?)?;
        if path.is_empty() {
            return Err(error("expected the path of a socket behind unix://"));
        }
        address.places = vec![Place::Unix(PathBuf::from(path))];
        Ok(address)
    }

    /// Takes `user:password@` off the front.
    fn take_credentials<'a>(&mut self, authority: &'a str) -> Result<&'a str, AddressError> {
        let Some((credentials, rest)) = authority.rsplit_once('@') else { return Ok(authority) };
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        self.user = Some(decoded(user)?).filter(|user| !user.is_empty());
        self.password = Some(Secret::new(&decoded(password)?)).filter(|secret| !secret.is_empty());
        Ok(rest)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), AddressError> {
        let span = || {
            parse_duration(value)
                .map_err(|allowed| AddressError(format!("{key}: expected {allowed}")))
        };
        let switch = || match value {
            "1" | "t" | "true" => Ok(true),
            "0" | "f" | "false" => Ok(false),
            _ => Err(AddressError(format!("{key}: expected true or false"))),
        };
        match key {
            "addr" => {
                let is_sentinel = self.kind == Kind::Sentinel;
                let port = if is_sentinel { SENTINEL_PORT } else { REDIS_PORT };
                self.places.push(place(value, port)?);
            }
            "db" => {
                let number = value.parse();
                self.db = Some(number.map_err(|_| error("db: expected the number of a database"))?);
            }
            "connect_timeout" => self.connect_timeout = Some(span()?),
            "io_timeout" => self.io_timeout = Some(span()?),
            "tls_enabled" => self.tls = Some(switch()?),
            "force_resp2" => self.force_resp2 = Some(switch()?),
            "sentinel_user" => self.sentinel_user = Some(value.to_owned()),
            "sentinel_password" => self.sentinel_password = Some(Secret::new(value)),
            "sentinel_tls_enabled" => self.sentinel_tls = Some(switch()?),
            "sentinel_master_name" => self.sentinel_master_name = Some(value.to_owned()),
            "replica_client_enabled" => {
                if switch()? {
                    return Err(error("replica_client_enabled is not supported yet by Bobolink"));
                }
            }
            other => {
                return Err(AddressError(format!(
                    "the option {other:?} is unknown, expected addr, db, connect_timeout, \
                     io_timeout, tls_enabled, force_resp2, sentinel_user, sentinel_password, \
                     sentinel_tls_enabled, sentinel_master_name or replica_client_enabled"
                )));
            }
        }
        Ok(())
    }
}

/// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(super) fn place(text: &str, default_port: u16) -> Result<Place, AddressError> {
    let wrong = || error("expected host:port");
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
            let port = if rest.is_empty() { None } else { rest.strip_prefix(':') };
            if !rest.is_empty() && port.is_none() {
                return Err(wrong());
            }
            (host, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| error("expected a port from 0 to 65535"))?,
        None => default_port,
    };
    // A password with a strange sign in it may have come to stand here: so it is not repeated.
    let fits = |sign: char| sign.is_ascii_alphanumeric() || "-._:%".contains(sign);
    if host.is_empty() || !host.chars().all(fits) {
        return Err(wrong());
    }
    Ok(Place::Tcp { host: host.to_owned(), port })
}

/// With `%41` read as `A`.
fn decoded(text: &str) -> Result<String, AddressError> {
    let wrong = || error("expected two hexadecimal digits behind each %, and UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return Err(wrong()) };
        let digit = |byte: &u8| char::from(*byte).to_digit(16).ok_or_else(wrong);
        bytes.push((digit(high)? * 16 + digit(low)?) as u8);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn error(text: &str) -> AddressError {
    AddressError(text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp(host: &str, port: u16) -> Place {
        Place::Tcp { host: host.into(), port }
    }

    #[test]
    fn the_short_form_is_a_host_and_perhaps_a_port() {
        for (text, expected) in [
            ("redis:1", tcp("redis", 1)),
            ("127.0.0.1", tcp("127.0.0.1", 6379)),
            ("[::1]:7", tcp("::1", 7)),
            ("[::1]", tcp("::1", 6379)),
        ] {
            let address = Address { places: vec![expected], ..Address::default() };
            assert_eq!(Address::parse(text), Ok(address), "{text}");
        }
    }

    #[test]
    fn a_url_says_everything() {
        let url =
            "rediss://ann:p%40ss@host:7/3?connect_timeout=2s&io_timeout=500ms&force_resp2=true";
        let expected = Address {
            places: vec![tcp("host", 7)],
            tls: Some(true),
            user: Some("ann".into()),
            password: Some(Secret::new("p@ss")),
            db: Some(3),
            connect_timeout: Some(Duration::from_secs(2)),
            io_timeout: Some(Duration::from_millis(500)),
            force_resp2: Some(true),
            ..Address::default()
        };
        assert_eq!(Address::parse(url), Ok(expected));
    }

    #[test]
    fn sentinels_are_listed_with_addr_or_commas() {
        let url = "redis+sentinel://:pw@a:1?sentinel_master_name=m&addr=b&addr=c:3\
                   &sentinel_user=u&sentinel_password=s&sentinel_tls_enabled=1&tls_enabled=0";
        let expected = Address {
            places: vec![tcp("a", 1), tcp("b", 26_379), tcp("c", 3)],
            kind: Kind::Sentinel,
            tls: Some(false),
            password: Some(Secret::new("pw")),
            sentinel_user: Some("u".into()),
            sentinel_password: Some(Secret::new("s")),
            sentinel_tls: Some(true),
            sentinel_master_name: Some("m".into()),
            ..Address::default()
        };
        assert_eq!(Address::parse(url), Ok(expected));
        let listed = Address::parse("redis+sentinel://a,b:2").expect("valid").places;
        assert_eq!(listed, [tcp("a", 26_379), tcp("b", 2)]);
    }

    #[test]
    fn nodes_of_a_cluster_are_listed_alike() {
        let address = Address::parse("rediss+cluster://:pw@a,b:2?addr=c").expect("valid");
        assert_eq!(address.kind, Kind::Cluster);
        assert_eq!(address.tls, Some(true));
        assert_eq!(address.places, [tcp("a", 6_379), tcp("b", 2), tcp("c", 6_379)]);
    }

    #[test]
    fn a_socket_has_a_path() {
        let address = Address::parse("unix:///run/redis.sock?db=2").expect("valid");
        assert_eq!(address.places, [Place::Unix("/run/redis.sock".into())]);
        assert_eq!(address.db, Some(2));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (text, problem) in [
            ("http://x", "the scheme \"http\" is not allowed"),
            ("redis://ann:hunter2@host:x", "expected a port"),
            ("redis://ann:hunter2@", "expected host:port"),
            ("redis://ann:hunter2 host", "expected"),
            ("redis://host/hunter2", "number of a database"),
            ("redis://host?hunter=2", "the option \"hunter\" is unknown"),
            ("redis://host?tls_enabled=hunter2", "tls_enabled: expected true or false"),
            ("redis://host?io_timeout=5", "io_timeout: expected a duration"),
            ("redis://host?replica_client_enabled=true", "replica_client_enabled"),
            ("unix://", "expected the path"),
            ("redis://%zz@host", "hexadecimal"),
        ] {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(error.starts_with(problem) || error.contains(problem), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "(redis://|unix://|redis\\+sentinel://)?[ -~]{0,60}|.{0,60}") {
            let _ = Address::parse(&text);
        }

        #[test]
        fn a_password_survives_its_encoding(password in "[ -~äß]{1,20}") {
            let encoded: String = password.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let address = Address::parse(&format!("redis://:{encoded}@h")).unwrap();
            prop_assert_eq!(address.password, Some(Secret::new(&password)));
        }
    }
}
