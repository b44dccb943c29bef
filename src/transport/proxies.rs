//! Which peers are proxies that may tell whose connection they carry, and what they tell in headers
//! of a request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::header::{HeaderMap, HeaderName};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The networks of `http_server.trusted_proxies`. Without any, nobody is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Trusts every address of these networks.
    pub fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    /// Whether this is the address of a trusted proxy.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whose request this is: the peer's own, unless it is a trusted proxy. Then `X-Forwarded-For`
    /// is read from its end, where the nearest proxy wrote, up to the first address that is no
    /// trusted proxy; what stands before that is only what the client says. Without that header
    /// `X-Real-IP` counts. The port is 0 where the proxy did not tell it.
    pub fn client_of(&self, headers: &HeaderMap, peer: SocketAddr) -> SocketAddr {
        if !self.contain(peer.ip()) {
            return peer;
        }
        if !headers.contains_key(FORWARDED_FOR) {
            let real = headers.get(REAL_IP).and_then(|value| value.to_str().ok());
            return real.and_then(address_of).unwrap_or(peer);
        }
        let mut nearest = peer;
        for value in headers.get_all(FORWARDED_FOR).into_iter().rev() {
            let Ok(hops) = value.to_str() else { return nearest };
            for hop in hops.rsplit(',') {
                // Who wrote something else in here is the last one who is known.
                let Some(address) = address_of(hop) else { return nearest };
                nearest = address;
                if !self.contain(address.ip()) {
                    return nearest;
                }
            }
        }
        nearest
    }
}

/// An address with or without a port; one of IPv6 with or without brackets.
fn address_of(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let (ip, port) = match bare.parse::<IpAddr>() {
        Ok(ip) => (ip, 0),
        Err(_) => text.parse::<SocketAddr>().map(|address| (address.ip(), address.port())).ok()?,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn trusted() -> TrustedProxies {
        let networks = ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"];
        TrustedProxies::new(&networks.map(|network| network.parse().expect("network")))
    }

    fn headers(forwarded: &[&str], real: Option<&str>) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).expect("value");
        let mut headers = HeaderMap::new();
        for text in forwarded {
            headers.append(FORWARDED_FOR, value(text));
        }
        if let Some(text) = real {
            headers.insert(REAL_IP, value(text));
        }
        headers
    }

    fn client(peer: &str, headers: &HeaderMap) -> String {
        let peer = SocketAddr::new(peer.parse().expect("address"), 4_000);
        match trusted().client_of(headers, peer) {
            client if client.port() == 0 => client.ip().to_string(),
            client => client.to_string(),
        }
    }

    #[test]
    fn a_header_counts_from_a_trusted_proxy_only() {
        let forged = headers(&["203.0.113.9"], Some("203.0.113.9"));
        assert_eq!(client("198.51.100.1", &forged), "198.51.100.1:4000");
        assert_eq!(client("10.1.2.3", &forged), "203.0.113.9");
        assert_eq!(client("::ffff:10.1.2.3", &forged), "203.0.113.9");
        let peer = SocketAddr::new([10, 0, 0, 1].into(), 1);
        assert_eq!(TrustedProxies::default().client_of(&forged, peer), peer);
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_is_the_client() {
        const C: &str = "203.0.113.9";
        let table: &[(&[&str], Option<&str>, &str)] = &[
            (&[C], None, C),
            (&["1.1.1.1, 203.0.113.9"], None, C),
            (&["1.1.1.1, 203.0.113.9, 10.9.9.9"], None, C),
            (&["1.1.1.1", "203.0.113.9,10.9.9.9", "192.0.2.7"], None, C),
            (&["203.0.113.9:5123"], None, "203.0.113.9:5123"),
            (&["[2001:db8::1]:443"], None, "[2001:db8::1]:443"),
            (&["[2001:db8::1]"], None, "2001:db8::1"),
            (&["2001:db8::1, fd00::1"], None, "2001:db8::1"),
            (&["::ffff:203.0.113.9"], None, C),
            // Only proxies: the farthest of them began it.
            (&["10.7.7.7, 10.8.8.8"], None, "10.7.7.7"),
            // What is no address ends the chain of those who are believed.
            (&["203.0.113.9, unknown"], None, "10.0.0.1:4000"),
            (&["203.0.113.9, unknown, 10.5.5.5"], None, "10.5.5.5"),
            (&["203.0.113.9,"], None, "10.0.0.1:4000"),
            (&["\u{e4}"], None, "10.0.0.1:4000"),
            (&[""], None, "10.0.0.1:4000"),
            // The other header counts where this one is not.
            (&[], Some(C), C),
            (&[], Some("x"), "10.0.0.1:4000"),
            (&[C], Some("1.1.1.1"), C),
            (&["x"], Some("1.1.1.1"), "10.0.0.1:4000"),
            (&[], None, "10.0.0.1:4000"),
        ];
        for (forwarded, real, expected) in table {
            let headers = headers(forwarded, *real);
            assert_eq!(client("10.0.0.1", &headers), *expected, "{forwarded:?} {real:?}");
        }
    }

    proptest! {
        #[test]
        fn what_a_client_says_before_its_proxy_does_never_counts(
            said in "[ -~]{0,60}",
            real in "[ -~]{0,30}",
        ) {
            // The proxy appends the address it sees.
            let headers = headers(&[&format!("{said}, 203.0.113.9")], Some(&real));
            prop_assert_eq!(client("10.0.0.1", &headers), "203.0.113.9");
        }

        #[test]
        fn no_header_can_panic(value in proptest::collection::vec(32_u8..=255, 0..80)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let headers = HeaderMap::from_iter([(FORWARDED_FOR, value)]);
                client("10.0.0.1", &headers);
            }
        }
    }
}
