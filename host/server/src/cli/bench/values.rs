//! Values of the load generator's flags, within what a load can be.

use anyhow::{Context, bail};
use std::{
    net::{SocketAddr, ToSocketAddrs},
    str::FromStr,
    time::Duration,
};

/// Connections of a kind, each with a thread.
pub(super) const CONNECTIONS_MAX: usize = 10_000;
/// Queues, keys or bindings.
pub(super) const THINGS_MAX: usize = 10_000_000;
/// Bytes of a body: no broker takes larger ones.
pub(super) const BODY_BYTES_MAX: usize = 512 << 20;
/// Messages a second of a publisher.
pub(super) const RATE_MAX: u64 = 100_000_000;

/// Bytes of a name or a routing key of AMQP 0-9-1 (a short string: 4.2.5.3).
pub(super) const SHORT_STRING_BYTES_MAX: usize = 255;

/// A name that goes in a short string.
pub(super) fn short_string(text: &str) -> Result<String, String> {
    if text.len() > SHORT_STRING_BYTES_MAX {
        return Err(format!("AMQP takes {SHORT_STRING_BYTES_MAX} bytes, this is {}", text.len()));
    }
    Ok(text.to_owned())
}

/// A number from `MIN` to `MAX`.
pub(super) fn count<const MIN: usize, const MAX: usize>(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (MIN..=MAX).contains(number));
    number.ok_or_else(|| format!("it is a number from {MIN} to {MAX}"))
}

/// Seconds, or none.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    /// A year.
    const SECONDS_MAX: f64 = 31_536_000.0;
    let seconds = text.parse().ok().filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("it is a number of seconds from 0 to {SECONDS_MAX}"))
}

/// Seconds, a millisecond at least.
pub(super) fn some_seconds(text: &str) -> Result<Duration, String> {
    let seconds = seconds(text)?;
    if seconds < Duration::from_millis(1) {
        return Err("nothing can be measured in less than 0.001 seconds".to_owned());
    }
    Ok(seconds)
}

/// What a host and a port stand for.
#[derive(Clone, Debug)]
pub(super) struct Addresses(pub(super) Vec<SocketAddr>);

impl FromStr for Addresses {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let found = text.to_socket_addrs().context("it is a HOST:PORT that is known here")?;
        let addresses: Vec<_> = found.collect();
        if addresses.is_empty() {
            bail!("this host has no address");
        }
        Ok(Self(addresses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in ["nan", "-1", "1e30", "inf", "-inf", "", "x", "-0.1"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(some_seconds("0").is_err() && some_seconds("1e-9").is_err() && some_seconds("0.1").is_ok());
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!(count::<1, 10>("10"), Ok(10));
        for bad in ["0", "11", "-1", "99999999999999999999999", "1.5"] {
            assert_eq!(count::<1, 10>(bad), Err("it is a number from 1 to 10".to_owned()), "{bad}");
        }
    }

    #[test]
    fn hosts_have_names() {
        let Addresses(found) = "localhost:5672".parse().unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 5672));
        assert!("localhost".parse::<Addresses>().is_err());
    }
}
