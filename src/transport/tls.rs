//! Certificates and keys, from PEM text to a server that can exchange them while it runs.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, rustls};

/// What a `tls` section of the configuration holds, as PEM text.
#[derive(Clone, Copy)]
pub struct TlsMaterial<'a> {
    /// The section, for errors: `http_server.tls`.
    pub section: &'a str,
    /// The server's certificate and then those it was signed with.
    pub cert_pem: &'a str,
    pub key_pem: &'a str,
    /// If given, clients must show a certificate signed by one of these.
    pub client_ca_pem: Option<&'a str>,
}

/// The server side of TLS for one port. Clones share their certificates.
#[derive(Clone)]
pub struct TlsServer {
    config: Arc<ServerConfig>,
    current: Arc<CurrentKey>,
}

/// A key of a `tls` section that cannot be used. The message never holds key material.
#[derive(Debug, thiserror::Error)]
#[error("{section}.{key}: {problem}")]
pub struct TlsError {
    section: String,
    key: &'static str,
    problem: String,
}

/// The certificate and key that handshakes use from now on.
#[derive(Debug)]
struct CurrentKey(ArcSwap<CertifiedKey>);

/// Makes aws-lc-rs the cryptography of the process; to be called before TLS is used anywhere.
/// Later calls change nothing.
pub fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

impl TlsServer {
    /// Reads certificates and keys.
    ///
    /// # Errors
    /// Names the key of the section that is not PEM, is empty, or does not fit the others.
    pub fn new(material: &TlsMaterial<'_>) -> Result<Self, TlsError> {
        install_crypto();
        let current = Arc::new(CurrentKey(ArcSwap::from_pointee(material.certified_key()?)));
        let builder = match material.client_ca_pem {
            None => ServerConfig::builder().with_no_client_auth(),
            Some(pem) => {
                let roots = Arc::new(material.client_roots(pem)?);
                let verifier = WebPkiClientVerifier::builder(roots)
                    .build()
                    .map_err(|error| material.error("client_ca_pem", error))?;
                ServerConfig::builder().with_client_cert_verifier(verifier)
            }
        };
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&current) as _;
        let mut config = builder.with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), current })
    }

    /// Uses another certificate and key for the handshakes to come. The client CA stays.
    ///
    /// # Errors
    /// As [`TlsServer::new`]; the certificate in use stays.
    pub fn reload(&self, material: &TlsMaterial<'_>) -> Result<(), TlsError> {
        self.current.0.store(Arc::new(material.certified_key()?));
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

impl TlsMaterial<'_> {
    fn certified_key(&self) -> Result<CertifiedKey, TlsError> {
        let chain = self.certificates("cert_pem", self.cert_pem)?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|_| self.error("key_pem", "no private key in PEM format found"))?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                self.error("key_pem", "is not the key of the certificate in cert_pem")
            }
            rustls::Error::InvalidCertificate(_) => self.error("cert_pem", error),
            _ => self.error("key_pem", error),
        })
    }

    fn client_roots(&self, pem: &str) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates("client_ca_pem", pem)? {
            roots.add(certificate).map_err(|error| self.error("client_ca_pem", error))?;
        }
        Ok(roots)
    }

    fn certificates(
        &self,
        key: &'static str,
        pem: &str,
    ) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        match read {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            Ok(_) => Err(self.error(key, "no certificate in PEM format found")),
            Err(error) => Err(self.error(key, error)),
        }
    }

    fn error(&self, key: &'static str, problem: impl fmt::Display) -> TlsError {
        TlsError { section: self.section.to_owned(), key, problem: problem.to_string() }
    }
}

impl ResolvesServerCert for CurrentKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsServer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pair {
        cert: String,
        key: String,
    }

    fn self_signed() -> Pair {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("pair");
        Pair { cert: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    fn material<'a>(pair: &'a Pair) -> TlsMaterial<'a> {
        let section = "http_server.tls";
        TlsMaterial { section, cert_pem: &pair.cert, key_pem: &pair.key, client_ca_pem: None }
    }

    #[test]
    fn what_cannot_be_used_is_named_by_its_key() {
        let (pair, other) = (self_signed(), self_signed());
        let good = material(&pair);
        TlsServer::new(&good).expect("server");
        let broken = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        let table = [
            (TlsMaterial { cert_pem: "", ..good }, "cert_pem: no certificate"),
            (TlsMaterial { cert_pem: broken, ..good }, "cert_pem: "),
            (TlsMaterial { cert_pem: &pair.key, ..good }, "cert_pem: no certificate"),
            (TlsMaterial { key_pem: "secret", ..good }, "key_pem: no private key"),
            (TlsMaterial { key_pem: &other.key, ..good }, "key_pem: is not the key"),
            (TlsMaterial { client_ca_pem: Some("x"), ..good }, "client_ca_pem: no certificate"),
        ];
        for (material, expected) in table {
            let error = TlsServer::new(&material).expect_err(expected).to_string();
            assert!(error.starts_with(&format!("http_server.tls.{expected}")), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_bad_reload_keeps_the_certificate_in_use() {
        let (pair, next) = (self_signed(), self_signed());
        let server = TlsServer::new(&material(&pair)).expect("server");
        let in_use = || server.current.0.load().cert[0].clone();
        let first = in_use();
        let bad = TlsMaterial { key_pem: "", ..material(&next) };
        server.reload(&bad).expect_err("bad");
        assert_eq!(in_use(), first);
        server.reload(&material(&next)).expect("good");
        assert_ne!(in_use(), first);
    }
}
