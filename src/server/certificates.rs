//! The certificates of both ports.

use crate::config::{Config, Tls};
use crate::transport::tls::{TlsError, TlsMaterial, TlsServer};

const EXTERNAL: &str = "http_server.tls";
const INTERNAL: &str = "http_server.internal_tls";

/// TLS as configured; a port without is plain.
pub struct Certificates {
    pub external: Option<TlsServer>,
    /// The internal port's own.
    own_internal: Option<TlsServer>,
    /// The internal port uses the external one's if it has none of its own.
    shared: bool,
}

impl Certificates {
    pub fn load(config: &Config) -> Result<Self, TlsError> {
        let server = &config.http_server;
        Ok(Self {
            external: load(&server.tls, EXTERNAL)?,
            own_internal: load(&server.internal_tls, INTERNAL)?,
            shared: !server.tls_external,
        })
    }

    pub fn internal(&self) -> Option<TlsServer> {
        self.own_internal.clone().or_else(|| self.external.clone().filter(|_| self.shared))
    }

    /// Takes new certificates for the ports that have some; connections that stand keep theirs.
    pub fn reload(&self, config: &Config) -> Result<(), TlsError> {
        let server = &config.http_server;
        if let Some(external) = &self.external {
            external.reload(&material(&server.tls, EXTERNAL))?;
        }
        if let Some(internal) = &self.own_internal {
            internal.reload(&material(&server.internal_tls, INTERNAL))?;
        }
        Ok(())
    }
}

fn load(tls: &Tls, section: &'static str) -> Result<Option<TlsServer>, TlsError> {
    tls.enabled.then(|| TlsServer::new(&material(tls, section))).transpose()
}

fn material<'a>(tls: &'a Tls, section: &'static str) -> TlsMaterial<'a> {
    TlsMaterial {
        section,
        cert_pem: tls.cert_pem.text().unwrap_or_default(),
        key_pem: tls.key_pem.text().unwrap_or_default(),
        client_ca_pem: tls.client_ca_pem.text().filter(|pem| !pem.is_empty()),
    }
}
