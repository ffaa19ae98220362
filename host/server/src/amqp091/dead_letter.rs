//! Dead letters: what a client rejects goes on to the dead-letter exchange of its queue, from the
//! client's own connection.

use super::{Connection, leaving::Leaving};
use leveret_amqp091::{Event, Method};
use leveret_broker::port::Router;
use std::time::Duration;

/// Whether an event settles deliveries.
pub(super) fn settles(event: Option<&Event<'_>>) -> bool {
    matches!(
        event,
        Some(Event::Request {
            method: Method::BasicAck { .. } | Method::BasicReject { .. } | Method::BasicNack { .. },
            ..
        })
    )
}

/// How long until dead letters are due, with both times in milliseconds since 1970. Never very long:
/// a clock that was set back must not keep them waiting.
pub fn wait_until(due_ms: u64, now_ms: u64) -> Duration {
    Duration::from_millis(due_ms.saturating_sub(now_ms).min(leveret_broker::BACK_OFF_MS_MAX))
}

impl Connection {
    /// A run of settlements is over: has the store told of them, and sends on what was rejected, as far as that can be
    /// done now.
    pub(super) fn end_settling(&mut self, router: &mut dyn Router) {
        let Some(open) = &mut self.open else { return };
        open.client.tell_store();
        if open.client.has_dead_letters() {
            open.client.dead_letter(router);
        }
    }

    /// Gives the session a settlement at the front of `bytes`, past what its channel has waiting; how many bytes of it
    /// were used.
    pub(super) fn settle_past(&mut self, bytes: &[u8], router: &mut dyn Router) -> usize {
        let (consumed, event) = self.session.next_settlement(bytes);
        if let Some(event) = event {
            self.handle_event(event, router);
        }
        consumed
    }

    /// The same of what a channel sent before it was known that what is in front of it is held back.
    pub(super) fn settle_late(&mut self, number: u16, router: &mut dyn Router) {
        let settlements = self.held.take_settlements(number);
        let mut rest = &settlements[..];
        while !rest.is_empty() && !self.session.is_closing() {
            let consumed = self.settle_past(rest, router);
            rest = rest.get(consumed..).unwrap_or_default();
        }
        self.end_settling(router);
    }

    /// When [`Self::retry`] is due, in milliseconds since 1970; `None` if no dead letter was refused, no
    /// consumer waits for an interceptor that cannot be asked, and nothing that was delivered may be overdue.
    pub fn retry_due_ms(&self) -> Option<u64> {
        let client = &self.open.as_ref()?.client;
        client
            .dead_letters_due_ms()
            .into_iter()
            .chain(client.deliver_due_ms())
            .chain(client.overdue_ms())
            .chain(self.leaving.as_ref().and_then(Leaving::due_ms))
            .min()
    }

    /// Tries again what is due then. Deliveries follow in the next turn.
    pub fn retry(&mut self, router: &mut dyn Router) {
        self.retry_dead_letters(router);
        self.requeue_overdue(router);
        let due_ms = self.open.as_ref().and_then(|open| open.client.deliver_due_ms());
        self.deliveries_wait |= due_ms.is_some_and(|due_ms| due_ms <= router.now_ms());
        self.deliveries_wait |= self.leaving.is_some();
    }

    /// Puts back what was delivered and not settled in time.
    fn requeue_overdue(&mut self, router: &mut dyn Router) {
        let Some(open) = &mut self.open else { return };
        let overdue = open.client.requeue_overdue(router.now_ms());
        let Some(first) = overdue.first() else { return };
        tracing::warn!(
            "{} deliveries to {} were not settled in time and are in their queues again: the first was {} on channel {} \
             to consumer '{}' of queue '{}' in vhost '{}', which had {} ms; a consumer gets nothing new before it settles them",
            overdue.len(),
            open.identity.connection,
            first.delivery_tag,
            first.channel,
            first.consumer_tag,
            first.queue,
            open.vhost.name(),
            first.timeout_ms,
        );
        open.client.tell_store();
    }

    /// Tries again what was refused and is due, and what an answer was pending for.
    pub fn retry_dead_letters(&mut self, router: &mut dyn Router) {
        if let Some(open) = &mut self.open
            && open.client.dead_letters_waiting() > 0
        {
            open.client.dead_letter(router);
        }
    }
}
