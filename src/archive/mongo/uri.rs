//! What may be said of a connection string, which has a password in it. Pure.
//!
//! A password with a sign that has a meaning in the string is taken apart by whoever reads it: what
//! comes behind a `?` becomes an option, what comes before it a server. So parts of it would stand in
//! errors, and be looked up as names of servers. Such a string is refused before anybody reads it, with
//! a text that repeats nothing of it.

/// The shortest part of a secret that no text may have.
const TELLING: usize = 3;

/// What a string is that is no better described without repeating it.
const UNREADABLE: &str = "is not a valid connection string";

const AMBIGUOUS: &str = "an @ may stand only between the password and the first host, anywhere else it is \
     %40; in the user name and the password : / ? # [ ] and % have to be percent-encoded, too (%3A %2F \
     %3F %23 %5B %5D %25)";

const USERINFO: &str = "in the user name and the password @ : / ? # [ ] and % have to be percent-encoded \
     (%40 %3A %2F %3F %23 %5B %5D %25)";

const HOSTS: &str = "hosts must be given as name:port, joined by commas, with ports from 1 to 65535; a user \
     stands before them as name:password@, both percent-encoded";

/// Options whose values are nobody's business.
const SECRET_OPTIONS: [&str; 4] =
    ["authmechanismproperties", "proxypassword", "proxyusername", "tlscertificatekeyfilepassword"];

/// Refuses a string that may be read in another way than it is meant, and one whose hosts are none: the
/// text names what is wrong and repeats nothing.
pub fn check(uri: &str) -> Result<(), &'static str> {
    let (_, rest) = uri.split_once("://").ok_or(UNREADABLE)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if rest.matches('@').count() != authority.matches('@').count()
        || authority.matches('@').count() > 1
    {
        return Err(AMBIGUOUS);
    }
    let (userinfo, hosts) = match authority.split_once('@') {
        Some((userinfo, hosts)) => (userinfo, hosts),
        None => ("", authority),
    };
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    if ![user, password].into_iter().all(is_encoded) {
        return Err(USERINFO);
    }
    if hosts.split(',').all(is_host) { Ok(()) } else { Err(HOSTS) }
}

/// A text about a connection string, unless it repeats a part of what is secret in it.
pub fn without_secrets(text: &str, uri: &str) -> String {
    let is_told = secrets(uri).iter().any(|secret| has_part(text, secret));
    if is_told { UNREADABLE.into() } else { text.to_owned() }
}

/// User, password, and values of options that are as secret, each also as it is when decoded.
fn secrets(uri: &str) -> Vec<String> {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let userinfo = rest.rsplit_once('@').map_or("", |(userinfo, _)| userinfo);
    let options = rest.split_once('?').map_or("", |(_, options)| options).split('&');
    let is_secret = |key: &str| SECRET_OPTIONS.contains(&&*key.to_ascii_lowercase());
    let values = options.filter_map(|option| option.split_once('='));
    let values = values.filter(|(key, _)| is_secret(key)).map(|(_, value)| value);
    let raw = userinfo.split(':').chain(values).filter(|secret| !secret.is_empty());
    raw.flat_map(|secret| [secret.to_owned(), decoded(secret)]).collect()
}

/// Whether a text has the secret, or any part of it that is long enough to tell something.
fn has_part(text: &str, secret: &str) -> bool {
    let letters: Vec<char> = secret.chars().collect();
    let mut parts = letters.windows(TELLING.min(letters.len()).max(1));
    parts.any(|part| text.contains(&part.iter().collect::<String>()))
}

fn is_encoded(text: &str) -> bool {
    let is_pair = |part: &str| {
        part.get(..2).is_some_and(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    !text.contains([':', '/', '?', '#', '[', ']', '@']) && text.split('%').skip(1).all(is_pair)
}

/// A name or an address, with a port or without one.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            (address, port.strip_prefix(':').or(port.is_empty().then_some("1")))
        }
        None => host.split_once(':').map_or((host, Some("1")), |(name, port)| (name, Some(port))),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
    !name.is_empty() && name.chars().all(is_name) && port.is_some_and(is_port)
}

/// With what is percent-encoded in its own letters.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let pair = behind.get(..2).filter(|_| *first == b'%');
        let pair = pair.and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::{MongoStore, Settings};
    use super::*;
    use crate::config::units::Secret;

    #[test]
    fn what_has_one_meaning_is_taken() {
        for uri in [
            "mongodb://db1/",
            "mongodb://db1:27017,db2:27018,10.0.0.1/?replicaSet=rs0&w=majority",
            "mongodb://ann:s%40cret%3F@[::1]:27017,[fe80::1]/admin?authSource=admin",
            "mongodb://ann@db1",
            "mongodb://%2Ftmp%2Fmongodb-27017.sock/",
        ] {
            assert_eq!(check(uri), Ok(()), "{uri}");
        }
    }

    #[test]
    fn what_may_be_meant_otherwise_is_refused_with_what_to_write() {
        for (uri, told) in [
            ("mongodb://ann:pa?ss@db1/", "%3F"),
            ("mongodb://ann:pa@ss@db1/", "%40"),
            ("mongodb://ann:pa/ss@db1/", "%2F"),
            ("mongodb://ann:pa#ss@db1/", "%23"),
            ("mongodb://ann:pa:ss@db1/", "%3A"),
            ("mongodb://ann:pa%ss@db1/", "%25"),
            ("mongodb://db1/?appName=a@b", "anywhere else it is %40"),
            ("mongodb://ann:secret", "name:password@"),
            ("mongodb://ann:123456/", "65535"),
            ("mongodb:///", "name:port"),
            ("db1:27017", "is not a valid connection string"),
        ] {
            let text = check(uri).expect_err(uri);
            assert!(text.contains(told), "{uri}: {text}");
        }
    }

    #[test]
    fn a_text_that_repeats_a_part_of_a_secret_is_not_passed_on() {
        let uri = "mongodb://ann:hunter%32@db/?proxyPassword=opensesame&w=1";
        for text in ["hunter%32", "hunter2", "got unte", "sesame", "er2", "user ann"] {
            assert_eq!(without_secrets(text, uri), UNREADABLE, "{text}");
        }
        assert_eq!(without_secrets("w must be a number", uri), "w must be a number");
    }

    /// What opening says, by Display and Debug, with all that is logged meanwhile.
    fn told(uri: &str) -> String {
        let settings = Settings {
            uri: Secret::new(uri),
            database: "x".into(),
            read_timeout: Duration::from_millis(20),
            write_timeout: Duration::from_millis(100),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let opening = MongoStore::open(&settings, "e1".into());
        let error = runtime.expect("a runtime").block_on(opening).err().expect("nobody is there");
        format!("{error} {error:?} {settings:?}")
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        /// Letters that no text of ours or of the driver has three of in a row.
        #[test]
        fn no_part_of_a_password_is_ever_said(
            password in prop_oneof![
                4 => "[QXZJ7-9]{4}[@?/:#%&=,;+ \\[\\]]{1,2}[QXZJ7-9]{4,6}",
                // A port and an option.
                1 => "[7-9]{4}\\?w=[QXZJ7-9]{4,6}",
            ],
            options in prop_oneof![Just(""), Just("?w=1"), Just("?replicaSet=rs0")],
        ) {
            let told = told(&format!("mongodb://ann:{password}@127.0.0.1:1/{options}"));
            let low = told.to_lowercase();
            let words = password.split(|c: char| !c.is_ascii_alphanumeric());
            for word in words.filter(|word| word.len() >= TELLING) {
                prop_assert!(!has_part(&low, &word.to_lowercase()), "{password}: {told}");
            }
        }
    }
}
