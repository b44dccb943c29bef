//! TLS of a listener or of a connection, and the PEM texts it is made of.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::report::Report;
use super::setting::{Setting, section};
use super::tree::Tree;

section! {
    /// Certificates, keys and how to check the peer.
    pub struct Tls {
        pub enabled: bool,
        /// Our certificate chain.
        pub cert_pem: Pem,
        /// Its private key.
        pub key_pem: Pem,
        /// Roots to check a server with; empty for the system's.
        pub server_ca_pem: Pem,
        /// Roots to check client certificates with; empty to ask for none.
        pub client_ca_pem: Pem,
        /// Trusts any server.
        pub insecure_skip_verify: bool,
        /// Name to expect of a server, in the place of its host name.
        pub server_name: String,
    }
}

/// A PEM text, given as it is, in base64, or as the path of a file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pem {
    given: String,
    text: Option<String>,
}

impl Pem {
    /// The PEM text; none if nothing was given or what was given could not be read.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// A text that is PEM already.
    pub fn from_text(text: String) -> Self {
        Self { given: text.clone(), text: Some(text) }
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Something was given, and it is neither PEM, base64 of PEM nor a readable PEM file.
    pub fn is_broken(&self) -> bool {
        !self.is_empty() && self.text.is_none()
    }

    fn resolve(given: &str, report: &Report<'_>) -> Option<String> {
        let pem = |text: &str| text.contains("-----BEGIN ").then(|| text.to_owned());
        // Variables often carry line breaks as two characters.
        pem(given)
            .map(|text| if text.contains('\n') { text } else { text.replace("\\n", "\n") })
            .or_else(|| pem(&String::from_utf8(STANDARD.decode(given.trim()).ok()?).ok()?))
            .or_else(|| pem(&report.file(given).ok()?))
    }
}

/// Only whether it is there: it may be a private key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (&self.text, self.is_empty()) {
            (Some(_), _) => "***",
            (None, true) => "unset",
            (None, false) => "broken",
        })
    }
}

/// What cannot be read is no error yet: a section that is off may name files that are not there.
impl Setting for Pem {
    fn read(&mut self, from: Tree, at: &str, report: &mut Report<'_>) {
        let Some(given) = from.text() else {
            return report.refuse(at, "expected text in quotes", from.origin);
        };
        self.given = given.to_owned();
        self.text = Self::resolve(given, report);
        report.came_from(at, &from.origin);
    }

    fn show(&self) -> serde_json::Value {
        self.given.as_str().into()
    }
}
