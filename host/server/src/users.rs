//! Who may log in.
//!
//! For now there is one user, `guest`, and only from the machine itself, as in RabbitMQ's
//! default; managed users come with permissions.

use std::net::IpAddr;

/// What a log-in attempt comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// Welcome.
    Accepted,
    /// Wrong user or password.
    Refused,
    /// The right password, but `guest` may connect from the loopback interface only.
    LoopbackOnly,
}

/// The one user.
pub const GUEST: &str = "guest";

/// Checks a user's password; `peer` is the address the connection comes from.
#[must_use]
pub fn log_in(user: &[u8], password: &[u8], peer: IpAddr) -> LoginOutcome {
    if user != GUEST.as_bytes() || password != GUEST.as_bytes() {
        LoginOutcome::Refused
    } else if peer.to_canonical().is_loopback() {
        LoginOutcome::Accepted
    } else {
        LoginOutcome::LoopbackOnly
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    #[test]
    fn guest_comes_from_loopback_only() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(log_in(b"guest", b"guest", loopback), LoginOutcome::Accepted);
        assert_eq!(log_in(b"guest", b"guest", IpAddr::V6(Ipv6Addr::LOCALHOST)), LoginOutcome::Accepted);
        assert_eq!(log_in(b"guest", b"guest", IpAddr::from([192, 0, 2, 1])), LoginOutcome::LoopbackOnly);
        assert_eq!(log_in(b"guest", b"", loopback), LoginOutcome::Refused);
        assert_eq!(log_in(b"", b"", loopback), LoginOutcome::Refused);
    }
}
