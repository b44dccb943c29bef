//! TLS of a client: whom it believes, and how it shows itself.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsConnector, rustls};

use crate::config::Tls;

/// What a connection with TLS needs. Clones share it.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    /// In the place of the host's name.
    server_name: Option<ServerName<'static>>,
}

/// A key of a `tls` section that cannot be used. The message never holds key material.
#[derive(Debug, thiserror::Error)]
#[error("{section}.{key}: {problem}")]
pub struct ClientTlsError {
    section: &'static str,
    key: &'static str,
    problem: String,
}

/// Without what is in it: there may be a private key.
impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

impl ClientTls {
    /// Reads certificates and keys of `section`.
    ///
    /// # Errors
    /// Names the key that cannot be used.
    pub fn new(tls: &Tls, section: &'static str) -> Result<Self, ClientTlsError> {
        let error = |key, problem: String| ClientTlsError { section, key, problem };
        // A section that is off is not checked before, and an address may use it all the same.
        for (key, pem) in [
            ("server_ca_pem", &tls.server_ca_pem),
            ("cert_pem", &tls.cert_pem),
            ("key_pem", &tls.key_pem),
        ] {
            if pem.is_broken() {
                let allowed = "expected PEM text, base64 of it, or the path of a PEM file";
                return Err(error(key, allowed.into()));
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|problem| error("enabled", problem.to_string()))?;
        let builder = if tls.insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        } else {
            let roots = roots(tls).map_err(|problem| error("server_ca_pem", problem))?;
            builder.with_root_certificates(roots)
        };
        let config = match (tls.cert_pem.text(), tls.key_pem.text()) {
            (Some(chain), Some(key)) => {
                let chain = certificates(chain).map_err(|problem| error("cert_pem", problem))?;
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                    .map_err(|_| error("key_pem", "no private key in PEM format found".into()))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|problem| error("cert_pem", problem.to_string()))?
            }
            _ => builder.with_no_client_auth(),
        };
        let server_name = match tls.server_name.as_str() {
            "" => None,
            name => Some(
                ServerName::try_from(name.to_owned())
                    .map_err(|_| error("server_name", format!("{name:?} is not a host name")))?,
            ),
        };
        Ok(Self { config: Arc::new(config), server_name })
    }

    /// Begins TLS on a connection to `host`.
    ///
    /// # Errors
    /// The server cannot be trusted or does not speak TLS, or `host` is nothing to check.
    pub async fn begin(&self, host: &str, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(io::Error::other)?,
        };
        TlsConnector::from(Arc::clone(&self.config)).connect(name, tcp).await
    }
}

/// Those of the section, or else those of the system.
fn roots(tls: &Tls) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match tls.server_ca_pem.text() {
        Some(pem) => {
            for certificate in certificates(pem)? {
                roots.add(certificate).map_err(|error| error.to_string())?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err("not set, and the system has no root certificates".into());
            }
        }
    }
    Ok(roots)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err("no certificate in PEM format found".into()),
    }
}

/// Believes every server, as `insecure_skip_verify` asks for.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
