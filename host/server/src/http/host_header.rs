//! Whether a request means this broker.
//!
//! A web page can have its own name point to this machine (DNS rebinding); its browser then counts
//! the broker as the page's own. The `Host` header still says the page's name, so only names that
//! nobody else can have are taken: loopback, and the very address that was connected to.

use super::error::ApiError;
use axum::http::{HeaderMap, Uri, header, uri::Authority};
use std::net::{IpAddr, SocketAddr};

/// Checks `Host`, and what the request line names where it names a host too. `local` is the
/// broker's end of the connection.
///
/// # Errors
/// [`ApiError::ForeignHost`], also if there is no `Host` or more than one.
pub(super) fn check(uri: &Uri, headers: &HeaderMap, local: SocketAddr) -> Result<(), ApiError> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).and_then(|host| host.parse().ok());
    let one = host.filter(|_| hosts.next().is_none());
    let is_ours = |authority: &Authority| is_ours(authority, local);
    if one.as_ref().is_some_and(is_ours) && uri.authority().is_none_or(is_ours) {
        Ok(())
    } else {
        Err(ApiError::ForeignHost)
    }
}

/// Loopback by any port, since a tunnel or a container may give the port another number; any other
/// address only with the port that was connected to.
fn is_ours(authority: &Authority, local: SocketAddr) -> bool {
    let host = authority.host();
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let Ok(address) = bare.parse::<IpAddr>() else {
        return false;
    };
    let address = address.to_canonical();
    /// Of a URL that names none.
    const PORT_DEFAULT: u16 = 80;
    address.is_loopback()
        || (address == local.ip().to_canonical()
            && authority.port_u16().unwrap_or(PORT_DEFAULT) == local.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn taken(hosts: &[&str], uri: &str) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        check(&uri.parse().unwrap(), &headers, "192.0.2.7:15672".parse().unwrap()).is_ok()
    }

    #[test]
    fn loopback_and_the_listening_address_are_ours() {
        let ours =
            ["localhost", "LocalHost:15672", "127.0.0.1:15672", "127.1.2.3", "[::1]:8080", "192.0.2.7:15672"];
        for host in ours {
            assert!(taken(&[host], "/api/overview"), "{host}");
        }
        assert!(taken(&["localhost"], "http://localhost/api/overview"));
    }

    #[test]
    fn everything_else_is_foreign() {
        let foreign = [
            "",
            "evil.example",
            "evil.example:15672",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.0.2.7",
            "192.0.2.7:80",
            "192.0.2.8:15672",
            "user@evil.example",
            "[::1",
        ];
        for host in foreign {
            assert!(!taken(&[host], "/api/overview"), "{host}");
        }
        assert!(!taken(&[], "/api/overview"));
        assert!(!taken(&["localhost", "localhost"], "/api/overview"));
        assert!(!taken(&["localhost"], "http://evil.example/api/overview"));
    }
}
