//! Changes of a message that an interceptor wants and that are not just made: some need a grant, some a message cannot
//! have. That depends on the protocol that the message came by, so it is asked about each message, also where the verdict
//! is remembered.

use super::{Worker, fault_ruling, seats::Fault};
use leveret_broker::port::{Doubt, Ruling, Site};
use std::sync::Arc;

/// Why what the sender may have signed stays as it is.
const SIGNED: &str =
    "it changes what an AMQP 1.0 message's sender may have signed and needs the grant 'modify-body'";

impl Worker {
    /// See [`Router::object`](leveret_broker::port::Router::object).
    pub(in crate::worker) fn object_at(
        &mut self,
        (site, number): (Site<'_>, usize),
        doubt: Doubt<'_>,
        counts: bool,
    ) -> Option<(Ruling, Arc<str>)> {
        let at = self.interceptors.chain(site).get(number).copied()?;
        let (attachment, seat) = self.interceptors.seat(at)?;
        let fault = match doubt {
            Doubt::Signed if seat.may_modify_body() => return None,
            Doubt::Signed => Fault::NotGranted(SIGNED),
            Doubt::Impossible(error) => Fault::Wrong(error.to_string()),
        };
        if counts {
            seat.count_fault(&attachment, &fault);
        }
        Some((fault_ruling(&attachment, &fault), Arc::from(fault.why())))
    }
}
