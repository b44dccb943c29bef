//! Where a run's connections go: addresses taken apart and looked up once.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use hyper::Uri;

/// Addresses of this machine that connections come from in turn. Each has about 28,000 ports, and a
/// port that was closed is taken for another minute; so even run after run does not use them up.
const SOURCES: usize = 250;

/// One endpoint of the server.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    /// As it stands in the Host header.
    pub host: String,
    /// With the query.
    pub path: String,
}

/// An address that the generator cannot use.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("{0:?} is not an address: {1}")]
    Uri(String, hyper::http::uri::InvalidUri),
    #[error("{0:?}: an address like {1}://host:port/path is needed; TLS is not measured")]
    Scheme(String, &'static str),
    #[error("cannot find {0}: {1}")]
    Lookup(String, io::Error),
    #[error("{0} has no address")]
    Nowhere(String),
}

impl Target {
    /// The endpoint of an address such as `ws://127.0.0.1:8000/connection/websocket`.
    ///
    /// # Errors
    /// What is not such an address, or a host that is not found.
    pub fn new(address: &str) -> Result<Self, TargetError> {
        Self::of(address, "ws")
    }

    /// The endpoint of an address such as `http://127.0.0.1:8000/api`.
    ///
    /// # Errors
    /// As [`Target::new`].
    pub fn http(address: &str) -> Result<Self, TargetError> {
        Self::of(address, "http")
    }

    /// The server API where a server has it unless it is told otherwise: on the same port.
    pub fn api(&self) -> Self {
        Self { path: "/api".to_owned(), ..self.clone() }
    }

    /// From which address the connection with this number should come; `None`, for a server
    /// elsewhere, leaves it to the system.
    pub fn source(&self, number: usize) -> Option<IpAddr> {
        let is_here = matches!(self.address.ip(), IpAddr::V4(ip) if ip.is_loopback());
        let host = u8::try_from(number % SOURCES).unwrap_or_default() + 1;
        is_here.then(|| Ipv4Addr::new(127, 0, 1, host).into())
    }

    fn of(address: &str, scheme: &'static str) -> Result<Self, TargetError> {
        let uri: Uri =
            address.parse().map_err(|error| TargetError::Uri(address.to_owned(), error))?;
        let (Some(authority), true) = (uri.authority(), uri.scheme_str() == Some(scheme)) else {
            return Err(TargetError::Scheme(address.to_owned(), scheme));
        };
        let name = authority.host().trim_matches(['[', ']']);
        let mut found = (name, authority.port_u16().unwrap_or(80))
            .to_socket_addrs()
            .map_err(|error| TargetError::Lookup(name.to_owned(), error))?;
        let address = found.next().ok_or_else(|| TargetError::Nowhere(name.to_owned()))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self { address, host: authority.as_str().to_owned(), path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let target = Target::new("ws://127.0.0.1:8000/connection/websocket?x=y").unwrap();
        assert_eq!(target.address, SocketAddr::from(([127, 0, 0, 1], 8_000)));
        assert_eq!((&*target.host, &*target.path), ("127.0.0.1:8000", "/connection/websocket?x=y"));
        assert_eq!(target.api().path, "/api");
        assert_eq!(Target::new("ws://[::1]:80").unwrap().address, "[::1]:80".parse().unwrap());
    }

    #[test]
    fn what_is_not_measured_is_refused_by_name() {
        for address in ["wss://127.0.0.1/", "http://127.0.0.1/", "127.0.0.1:8000", "ws://"] {
            let error = Target::new(address).expect_err(address).to_string();
            assert!(error.contains(address), "{error}");
        }
    }

    #[test]
    fn only_connections_to_this_machine_are_spread_over_sources() {
        let here = Target::new("ws://127.0.0.1:1").unwrap();
        // From the first on, and each as often as any other.
        for start in [0, 999_999_999] {
            let sources = (start..start + SOURCES).map(|number| here.source(number));
            let sources: std::collections::HashSet<_> = sources.collect();
            assert_eq!(sources.len(), SOURCES);
            assert!(sources.iter().all(|it| it.is_some_and(|it| it.is_loopback())));
        }
        for elsewhere in ["ws://[::1]:1", "ws://192.0.2.1:1"] {
            assert_eq!(Target::new(elsewhere).unwrap().source(0), None);
        }
    }
}
