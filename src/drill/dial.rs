//! Connections to gateways and to their server API, with TLS or without.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::client::{Client, Endpoint, Error};
use crate::config::{Pem, Tls};
use crate::redis::{ClientTls, ClientTlsError};

/// A stream of bytes to a gateway.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A client over such a stream.
pub type Caller = Client<Box<dyn Wire>>;

/// How connections are made. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Dial {
    tls: Option<ClientTls>,
}

/// Certificates that nobody can be believed by.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("--tls-ca {0}: {1}")]
    Authority(PathBuf, io::Error),
    #[error("TLS: {0}")]
    Tls(#[from] ClientTlsError),
}

impl Dial {
    /// With TLS where an address asks for it. Believed are servers that the `authority`, a file, vouches
    /// for, or without one those of the system; or simply all.
    ///
    /// # Errors
    /// The file, or what the system has, is of no use.
    pub fn secure(authority: Option<&Path>, believes_all: bool) -> Result<Self, DialError> {
        let mut tls = Tls { enabled: true, insecure_skip_verify: believes_all, ..Tls::default() };
        if let Some(path) = authority {
            let failed = |error| DialError::Authority(path.to_owned(), error);
            let text = std::fs::read_to_string(path).map_err(failed)?;
            if !text.contains("-----BEGIN CERTIFICATE-----") {
                return Err(failed(io::Error::other("no certificate in PEM format found")));
            }
            tls.server_ca_pem = Pem::from_text(text);
        }
        Ok(Self { tls: Some(ClientTls::new(&tls, "tls")?) })
    }

    /// Connects to a port.
    ///
    /// # Errors
    /// Nobody is there, or nobody to be believed.
    pub async fn connect(
        &self,
        host: &str,
        port: u16,
        is_secure: bool,
    ) -> io::Result<Box<dyn Wire>> {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        match (is_secure, &self.tls) {
            (false, _) => Ok(Box::new(stream)),
            (true, Some(tls)) => Ok(Box::new(tls.begin(host, stream).await?)),
            (true, None) => Err(io::Error::other("nobody said whom to believe")),
        }
    }

    /// Opens a WebSocket.
    ///
    /// # Errors
    /// What the client says.
    pub async fn open(&self, endpoint: &Endpoint) -> Result<Caller, Error> {
        let (host, port) = endpoint.host_and_port();
        let stream = self.connect(host, port, endpoint.is_secure()).await?;
        Client::open_on(stream, endpoint).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let told = |path: &Path| Dial::secure(Some(path), false).unwrap_err().to_string();
        assert!(told(&path).starts_with(&format!("--tls-ca {}: ", path.display())));
        std::fs::write(&path, "no certificate").unwrap();
        assert!(told(&path).ends_with("no certificate in PEM format found"));
    }
}
