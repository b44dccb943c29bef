//! Where the server listens.

use super::later::{Switch, TlsAutocert};
use super::setting::section;
use super::tls::Tls;

section! {
    /// Addresses, ports and TLS of the listeners.
    pub struct HttpServer {
        /// Interface to listen on; empty for all.
        pub address: String,
        /// Port of everything that is not internal; 0 lets the system choose.
        pub port: u16 = 8000,
        /// Interface of the internal endpoints; empty for `address`.
        pub internal_address: String,
        /// Port of the internal endpoints (API, metrics, health, swagger, admin, debug). Without
        /// it and `internal_address` they share the main listener.
        pub internal_port: Option<u16>,
        /// TLS of both listeners.
        pub tls: Tls,
        /// TLS on the main listener only; needs a separate internal port.
        pub tls_external: bool,
        /// TLS of the internal listener, in the place of `tls`.
        pub internal_tls: Tls,
        pub tls_autocert: TlsAutocert,
        pub http3: Switch,
        pub h2c_external: bool,
    }
}

impl HttpServer {
    /// Address and port of the internal listener, unless internal endpoints share the main one.
    pub fn internal(&self) -> Option<(&str, u16)> {
        let address = match self.internal_address.as_str() {
            "" => self.address.as_str(),
            own => own,
        };
        let port = self.internal_port.unwrap_or(self.port);
        (address != self.address || self.internal_port.is_some_and(|p| p != self.port || p == 0))
            .then_some((address, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_endpoints_move_only_to_a_place_of_their_own() {
        let server = |address: &str, port| HttpServer {
            internal_address: address.into(),
            internal_port: port,
            ..HttpServer::default()
        };
        assert_eq!(server("", None).internal(), None);
        assert_eq!(server("", Some(8000)).internal(), None);
        assert_eq!(server("", Some(9000)).internal(), Some(("", 9000)));
        assert_eq!(server("127.0.0.1", None).internal(), Some(("127.0.0.1", 8000)));
        assert_eq!(server("127.0.0.1", Some(9000)).internal(), Some(("127.0.0.1", 9000)));
    }
}
