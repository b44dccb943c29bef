//! Where the server listens.

use ipnet::IpNet;
use serde_json::Value as Json;

use super::later::{Switch, TlsAutocert};
use super::report::Report;
use super::setting::{Setting, section};
use super::tls::Tls;
use super::tree::Tree;

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
        /// Networks whose proxies may tell a client's address, by the PROXY protocol or in
        /// `X-Forwarded-For` and `X-Real-IP`. Not of Centrifugo.
        pub trusted_proxies: Vec<IpNet>,
        /// The main listener takes only connections of `trusted_proxies`, each beginning with a
        /// header of the PROXY protocol. Not of Centrifugo.
        pub proxy_protocol: bool,
        /// Interface of the agent; empty for that of the internal endpoints. Not of Centrifugo.
        pub agent_address: String,
        /// Port of the agent that HAProxy asks about load and drain; none: no agent. Not of
        /// Centrifugo.
        pub agent_port: Option<u16>,
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

    /// Address and port of the agent, if there is to be one.
    pub fn agent(&self) -> Option<(&str, u16)> {
        let addresses = [&self.agent_address, &self.internal_address, &self.address];
        let address = addresses.into_iter().find(|address| !address.is_empty());
        Some((address.map_or("", String::as_str), self.agent_port?))
    }
}

impl Setting for Vec<IpNet> {
    fn read(&mut self, from: Tree, at: &str, report: &mut Report<'_>) {
        let mut texts = Vec::<String>::new();
        let problems = report.errors.len();
        texts.read(from.clone(), at, report);
        if report.errors.len() == problems {
            let networks = texts.iter().map(|text| network(text)).collect();
            let allowed = "a list of networks such as \"10.0.0.0/8\" and addresses";
            report.take(self, networks, &from, at, allowed);
        }
    }

    fn show(&self) -> Json {
        self.iter().map(|network| Json::from(network.to_string())).collect()
    }
}

/// A network, or an address as a network of its own.
fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse::<IpNet>().ok().or_else(|| Some(text.parse::<std::net::IpAddr>().ok()?.into()))
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

    #[test]
    fn the_agent_is_on_the_internal_interface_unless_told_otherwise() {
        let server = |address: &str, internal: &str, agent: &str| HttpServer {
            address: address.into(),
            internal_address: internal.into(),
            agent_address: agent.into(),
            agent_port: Some(9_100),
            ..HttpServer::default()
        };
        assert_eq!(HttpServer::default().agent(), None);
        assert_eq!(server("", "", "").agent(), Some(("", 9_100)));
        assert_eq!(server("a", "", "").agent(), Some(("a", 9_100)));
        assert_eq!(server("a", "b", "").agent(), Some(("b", 9_100)));
        assert_eq!(server("a", "b", "c").agent(), Some(("c", 9_100)));
    }

    #[test]
    fn networks_and_addresses_are_read_and_nothing_else() {
        for (text, expected) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("10.1.2.3", Some("10.1.2.3/32")),
            (" fd00::/8 ", Some("fd00::/8")),
            ("::1", Some("::1/128")),
            ("10.0.0.0/33", None),
            ("10.0.0", None),
            ("haproxy", None),
            ("*", None),
            ("", None),
        ] {
            let found = network(text).map(|network| network.to_string());
            assert_eq!(found.as_deref(), expected, "{text:?}");
        }
    }
}
