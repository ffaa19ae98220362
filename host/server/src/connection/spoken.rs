//! What a client speaks: told by the first eight bytes that it sends (sections 4.2.2 of AMQP 0-9-1, 2.2 of AMQP 1.0).

use super::{Ends, timers::Beats};
use crate::{
    amqp10,
    amqp091::{self, Reading},
    tls::Secured,
    wiring::Shared,
};
use leveret_broker::port::Router;
use std::sync::Arc;

use super::{ConnectionWake, Forced};

/// How many bytes tell the protocol.
const HEADER_BYTES: usize = 8;

/// The protocol of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// AMQP 1.0, with SASL or without.
    Amqp10,
    /// AMQP 0-9-1, or what that answers.
    Other,
}

/// What the first bytes of a client say; `None` if they are too few.
pub(super) fn header(bytes: &[u8]) -> Option<Header> {
    match bytes.first_chunk::<HEADER_BYTES>() {
        // Without SASL, and with TLS within, it is answered that SASL is wanted.
        Some([b'A', b'M', b'Q', b'P', 0 | 2 | 3, 1, 0, 0]) => Some(Header::Amqp10),
        Some(_) => Some(Header::Other),
        None => (!b"AMQP".starts_with(bytes) && !bytes.starts_with(b"AMQP")).then_some(Header::Other),
    }
}

/// The broker's side of one client.
pub(super) enum Spoken {
    /// As which every connection begins.
    Amqp091(Box<amqp091::Connection>),
    Amqp10(Box<amqp10::Connection>),
}

/// The same for either.
macro_rules! either {
    ($spoken:expr, $connection:ident => $do:expr) => {
        match $spoken {
            Spoken::Amqp091($connection) => $do,
            Spoken::Amqp10($connection) => $do,
        }
    };
}

impl Spoken {
    /// Of a client that has said nothing.
    pub(super) fn new(id: u64, ends: Ends, shared: Arc<Shared>, wake: Arc<ConnectionWake>) -> Self {
        Self::Amqp091(Box::new(amqp091::Connection::new(id, ends, shared, wake)))
    }

    /// The client speaks AMQP 1.0. `proved`: the user that its certificate names, if it showed one.
    pub(super) fn turn_to_amqp10(
        &mut self,
        id: u64,
        ends: Ends,
        (shared, wake): (Arc<Shared>, Arc<ConnectionWake>),
        proved: Option<Option<Vec<u8>>>,
    ) {
        *self = Self::Amqp10(Box::new(amqp10::Connection::new(id, ends, shared, wake, proved)));
    }

    /// TLS is there, before anything else.
    pub(super) fn secured(&mut self, tls: Option<Arc<Secured>>) {
        if let Self::Amqp091(connection) = self {
            connection.secured(tls);
        }
    }

    /// The client showed a certificate, before anything else.
    pub(super) fn proved(&mut self, user: Option<Vec<u8>>) {
        if let Self::Amqp091(connection) = self {
            connection.proved(user);
        }
    }

    pub(super) fn handle_bytes(
        &mut self,
        bytes: &[u8],
        output_bytes_max: usize,
        router: &mut dyn Router,
    ) -> usize {
        either!(self, connection => connection.handle_bytes(bytes, output_bytes_max, router))
    }

    /// Whether what was given last was left because it is not whole.
    pub(super) fn wants_more_bytes(&self) -> bool {
        either!(self, connection => connection.wants_more_bytes())
    }

    pub(super) fn woken(&mut self, router: &mut dyn Router) {
        either!(self, connection => connection.woken(router));
    }

    pub(super) fn deliver(&mut self, output_bytes_max: usize, router: &mut dyn Router) {
        either!(self, connection => connection.deliver(output_bytes_max, router));
    }

    pub(super) fn has_deliveries(&mut self) -> bool {
        either!(self, connection => connection.has_deliveries())
    }

    pub(super) fn has_waited(&self) -> bool {
        match self {
            Self::Amqp091(connection) => connection.has_waited(),
            // What waits is woken.
            Self::Amqp10(_) => false,
        }
    }

    pub(super) fn reading(&mut self) -> Reading {
        either!(self, connection => connection.reading())
    }

    pub(super) fn holds_back(&self) -> bool {
        match self {
            Self::Amqp091(connection) => connection.holds_back(),
            Self::Amqp10(_) => false,
        }
    }

    pub(super) fn release(&mut self) {
        either!(self, connection => connection.release());
    }

    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        either!(self, connection => connection.output())
    }

    pub(super) fn is_open(&self) -> bool {
        either!(self, connection => connection.is_open())
    }

    pub(super) fn is_closing(&self) -> bool {
        either!(self, connection => connection.is_closing())
    }

    pub(super) fn is_closed(&self) -> bool {
        either!(self, connection => connection.is_closed())
    }

    pub(super) fn is_closed_by_client(&self) -> bool {
        either!(self, connection => connection.is_closed_by_client())
    }

    /// How often to look for signs of life, and to give some.
    pub(super) fn beats(&self) -> Beats {
        match self {
            Self::Amqp091(connection) => Beats::of_heartbeat(connection.heartbeat_seconds()),
            Self::Amqp10(connection) => {
                Beats::of_time_outs(connection.remote_idle_time_out_ms(), connection.idle_time_out_ms())
            }
        }
    }

    pub(super) fn put_heartbeat(&mut self) {
        either!(self, connection => connection.put_heartbeat());
    }

    pub(super) fn stop(&mut self, router: &mut dyn Router) {
        either!(self, connection => connection.stop(router));
    }

    pub(super) fn force_close(&mut self, forced: &Forced, router: &mut dyn Router) {
        either!(self, connection => connection.force_close(forced, router));
    }

    pub(super) fn count_bytes(&self, received: usize, sent: usize) {
        either!(self, connection => connection.count_bytes(received, sent));
    }

    pub(super) fn hang_up(&mut self, router: &mut dyn Router) {
        either!(self, connection => connection.hang_up(router));
    }

    pub(super) fn go_on_alone(&mut self, bytes: &[u8], woken: bool, router: &mut dyn Router) -> usize {
        either!(self, connection => connection.go_on_alone(bytes, woken, router))
    }

    pub(super) fn has_unfinished(&mut self, left: &[u8]) -> bool {
        match self {
            Self::Amqp091(connection) => connection.has_unfinished(left),
            Self::Amqp10(connection) => connection.has_unfinished(),
        }
    }

    pub(super) fn retry_due_ms(&self) -> Option<u64> {
        either!(self, connection => connection.retry_due_ms())
    }

    pub(super) fn retry(&mut self, router: &mut dyn Router) {
        either!(self, connection => connection.retry(router));
    }

    pub(super) fn end(&mut self, router: &mut dyn Router) {
        either!(self, connection => connection.end(router));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bytes_tell_the_protocol() {
        for id in [0, 2, 3] {
            assert_eq!(header(&[b'A', b'M', b'Q', b'P', id, 1, 0, 0, 0xff]), Some(Header::Amqp10), "{id}");
        }
        for bytes in [&b"AMQP\0\0\x09\x01"[..], b"AMQP\x01\x01\0\x09", b"AMQP\x01\x01\0\0", b"GET / HT", b"x"]
        {
            assert_eq!(header(bytes), Some(Header::Other), "{bytes:?}");
        }
        for length in 0..8 {
            assert_eq!(header(&b"AMQP\x03\x01\0\0"[..length]), None, "{length}");
        }
    }
}
