//! States of deliveries that were sent (sections 2.6.12 and 3.4): what they mean for the queue.
//!
//! ```text
//! accepted  done                        released               back to the queue, counts as no failure
//! rejected  dead-lettered or dropped    modified               back to the queue; with delivery-failed it counts
//!                                       undeliverable-here     dead-lettered or dropped
//! ```
//! Message annotations of modified that begin with `x-` are put into the message, as headers are that it has, and outlive
//! the process where it does.
//! A client that settles without an outcome has the source's default: what it said itself when it attached the link, else
//! released. What it never settles has no outcome, and goes back when its link ends. One that tells an outcome and
//! does not settle waits for that from here (receiver settle mode `second`): that comes once the outcome is as safe as the
//! queue's messages are to be. What goes back to the queue, and what was never written, is settled at once.

use super::{
    Connection, Session,
    charge::Charge,
    links::Outgoing,
    outcomes::{Outcome, Run},
    resuming::in_short,
};
use leveret_amqp10::{
    composite::Fields,
    form::{FORM, model_value},
    messaging::{self, DeliveryState},
    performatives::{Disposition, Role},
    types::{Timestamp, Value, write},
};
use leveret_broker::{AddedHeader, Client, MemoryAccount, Remark, Settle, header_bytes, port::Router};
use leveret_model::{Exact, Name};
use litemap::LiteMap;
use std::{collections::VecDeque, sync::Arc};

/// Deliveries of a session that are not settled, in the order of their numbers.
#[derive(Default)]
pub(super) struct Sent {
    deliveries: VecDeque<Delivered>,
    live: usize,
}

/// When a message that is given back to a quorum queue is to be tried again, as in RabbitMQ.
const DELIVERY_TIME: &str = "x-opt-delivery-time";

/// How many settled ones are kept in the middle besides as many as there are others.
const TOMBSTONES_MAX: usize = 64;

/// A delivery that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) id: u32,
    /// The link; `None` once it is gone and a transaction says what becomes of the delivery.
    pub(super) handle: Option<u32>,
    /// The broker's number, or 0 once it is settled.
    pub(super) tag: u64,
}

impl Sent {
    /// A delivery was sent, behind all others of the session.
    pub(super) fn push(&mut self, id: u32, handle: u32, tag: u64) {
        self.deliveries.push_back(Delivered { id, handle: Some(handle), tag });
        self.live += 1;
    }

    /// Puts one back that was taken out.
    pub(super) fn put_back(&mut self, delivered: Delivered) {
        let at = self.deliveries.partition_point(|other| ahead(other.id, delivered.id) < 0);
        match self.deliveries.get_mut(at).filter(|other| other.id == delivered.id) {
            Some(place) => *place = delivered,
            None => self.deliveries.insert(at, delivered),
        }
        self.live += 1;
    }

    /// Takes out those with numbers from `first` to `last` (RFC 1982), in order, but those that are held.
    pub(super) fn take(
        &mut self,
        first: u32,
        last: u32,
        is_held: impl Fn(u32) -> bool,
        mut each: impl FnMut(Delivered),
    ) {
        let Some((front, start)) = self.start(first) else { return };
        for delivered in self.deliveries.range_mut(start..) {
            if ahead(delivered.id, front) > ahead(last, front) {
                break;
            }
            if delivered.tag != 0 && !is_held(delivered.id) {
                self.live -= 1;
                each(*delivered);
                delivered.tag = 0;
            }
        }
        self.tidy();
    }

    /// Those with numbers from `first` to `last`, in order.
    pub(super) fn within(&self, first: u32, last: u32) -> impl Iterator<Item = &Delivered> {
        let (front, start) = self.start(first).unwrap_or((0, self.deliveries.len()));
        let all = self.deliveries.range(start..);
        let some = all.take_while(move |delivered| ahead(delivered.id, front) <= ahead(last, front));
        some.filter(|delivered| delivered.tag != 0)
    }

    /// The number at the front, and where the first one from `first` on is, as far as that is behind the front.
    fn start(&self, first: u32) -> Option<(u32, usize)> {
        let front = self.deliveries.front()?.id;
        let is_before = |delivered: &Delivered| ahead(delivered.id, front) < ahead(first, front);
        Some((front, self.deliveries.partition_point(is_before)))
    }

    /// A link is gone. Takes out what was sent on it, but those that are held: the broker's numbers, in order.
    pub(super) fn take_link(&mut self, handle: u32, is_held: impl Fn(u32) -> bool) -> Vec<u64> {
        let mut taken = Vec::new();
        let of_link = |delivered: &&mut Delivered| delivered.handle == Some(handle) && delivered.tag != 0;
        for delivered in self.deliveries.iter_mut().filter(of_link) {
            if is_held(delivered.id) {
                delivered.handle = None;
            } else {
                taken.push(std::mem::take(&mut delivered.tag));
            }
        }
        self.live -= taken.len();
        self.tidy();
        taken
    }

    /// Its session is over: what was not settled failed. Quorum queues count that themselves.
    pub(super) fn fail(&self, client: &mut Client, channel: u16) {
        if self.live > 0 {
            let tags = self.deliveries.iter().map(|delivered| delivered.tag);
            client.fail(channel, tags.filter(|tag| *tag != 0));
        }
    }

    /// The number of a delivery by the broker's.
    pub(super) fn id_of(&self, tag: u64) -> Option<u32> {
        self.deliveries.iter().find(|delivered| delivered.tag == tag).map(|delivered| delivered.id)
    }

    fn tidy(&mut self) {
        while self.deliveries.pop_front_if(|delivered| delivered.tag == 0).is_some() {}
        if self.deliveries.len() - self.live > self.live + TOMBSTONES_MAX {
            self.deliveries.retain(|delivered| delivered.tag != 0);
        }
    }
}

/// Deliveries of which the client has told a state, and waits for their end.
pub(super) struct Settling {
    channel: u16,
    ids: (u32, u32),
    state: DeliveryState<'static>,
}

/// How far a number is ahead of another (RFC 1982).
fn ahead(id: u32, of: u32) -> i32 {
    id.wrapping_sub(of).cast_signed()
}

/// What a state means for the queue; `None` if nothing yet.
pub(super) fn settlement(state: Option<&DeliveryState<'_>>, settled: bool) -> Option<Settle> {
    Some(match state {
        Some(DeliveryState::Accepted(_)) => Settle::Accepted,
        Some(DeliveryState::Rejected(_)) => Settle::Rejected,
        Some(DeliveryState::Released(_)) => Settle::Requeue { failed: false },
        Some(DeliveryState::Modified(modified)) => {
            let failed = modified.delivery_failed == Some(true);
            match (modified.undeliverable_here, failed) {
                (Some(true), true) => Settle::Rejected,
                (Some(true), false) => Settle::Discarded,
                _ => Settle::Requeue { failed },
            }
        }
        _ if settled => Settle::Requeue { failed: false },
        _ => return None,
    })
}

/// A time as clients say it: a timestamp, or a number.
fn ms_since_1970(time: &Value<'_>) -> Option<u64> {
    match *time {
        Value::Timestamp(Timestamp(ms)) | Value::Long(ms) => u64::try_from(ms).ok(),
        Value::Ulong(ms) => Some(ms),
        _ => None,
    }
}

/// What is added to a message.
#[derive(Clone)]
pub(super) struct Added {
    headers: Arc<[AddedHeader]>,
    failed: bool,
    /// When it is to be tried again.
    due_ms: Option<u64>,
    /// What memory is charged while it waits for the end of a transaction.
    _charge: Option<Arc<Charge>>,
}

impl Added {
    /// What a state adds; `None` if nothing.
    pub(super) fn by(state: Option<&DeliveryState<'_>>) -> Option<Self> {
        let Some(DeliveryState::Modified(modified)) = state else { return None };
        let annotations = modified.message_annotations.unwrap_or(Fields::EMPTY);
        let headers = annotations.map().iter().filter_map(|(key, value)| {
            let Value::Symbol(key) = key else { return None };
            let name = Name::new(key.as_str().as_bytes()).ok().filter(|name| name.starts_with(b"x-"))?;
            let mut exact = Vec::new();
            write::put(&mut exact, value);
            let exact = Some(Exact { protocol: FORM.protocol(), bytes: exact.into() });
            Some(AddedHeader { name, value: model_value(&value), exact })
        });
        let failed = modified.delivery_failed == Some(true);
        let due_ms = annotations.get(DELIVERY_TIME).and_then(|time| ms_since_1970(&time));
        let added = Self { headers: headers.collect(), failed, due_ms, _charge: None };
        Some(added).filter(|added| failed || !added.headers.is_empty())
    }

    /// How many bytes it takes, about.
    pub(super) fn bytes(&self) -> usize {
        header_bytes(&self.headers)
    }

    /// The same, with what memory is charged for it as long as it is there.
    pub(super) fn charged(self, account: &Arc<MemoryAccount>) -> Self {
        let _charge = Some(Arc::new(Charge::new(account.clone(), self.bytes())));
        Self { _charge, ..self }
    }

    /// What is to be noted of a delivery that is not settled yet.
    pub(super) fn remark(&self) -> Remark<'_> {
        let Self { headers, failed, due_ms, .. } = self;
        Remark { headers, failed: *failed, due_ms: *due_ms }
    }
}

/// What becomes of a delivery that is settled without an outcome (section 3.5.3), as the client has said of its source.
pub(super) struct ByDefault {
    pub(super) outcome: Settle,
    pub(super) added: Option<Added>,
}

impl ByDefault {
    /// What an outcome comes to; `None` if it is none of a message.
    pub(super) fn of(outcome: messaging::Outcome<'_>) -> Option<Self> {
        let state = DeliveryState::from(outcome);
        let outcome = settlement(Some(&state), false)?;
        Some(Self { outcome, added: Added::by(Some(&state)) })
    }

    /// That of a link, if it has one.
    pub(super) fn of_link(links: &LiteMap<u32, Outgoing>, handle: Option<u32>) -> Option<&Self> {
        links.get(&handle?)?.by_default.as_deref()
    }
}

impl Connection {
    /// Disposition (2.7.6).
    pub(super) fn on_disposition(
        &mut self,
        channel: u16,
        disposition: &Disposition<'_>,
        router: &mut dyn Router,
    ) {
        let (first, last) = (disposition.first, disposition.last.unwrap_or(disposition.first));
        // A sender that settles has heard of the outcome; nothing is kept here for that, but of links that can be resumed.
        if disposition.role == Role::Sender {
            if disposition.settled {
                self.on_sender_settled(channel, (first, last));
            }
            return;
        }
        if self.has_limited
            && let Some(state) = &disposition.state
            && self.end_unoffered(channel, (first, last), state, router)
        {
            return;
        }
        if let Some(DeliveryState::Transactional(state)) = &disposition.state {
            let settled = disposition.settled;
            if let Err(error) = self.settle_in_transaction(channel, (first, last), state, settled) {
                self.protocol.end_session(channel, error.condition(), &error.to_string());
            }
            return;
        }
        let Some(outcome) = settlement(disposition.state.as_ref(), disposition.settled) else { return };
        let added = Added::by(disposition.state.as_ref());
        let is_stated = disposition.state.is_some_and(|state| state.outcome().is_some());
        let Some(open) = &mut self.open else { return };
        let Some(Session { sent, outgoing, .. }) = open.sessions.get_mut(&channel) else { return };
        let (client, transactions) = (&mut open.client, &self.transactions);
        // The first and the last of those that there were.
        let mut range: Option<(u32, u32)> = None;
        let is_held = |id| transactions.holds(channel, id);
        sent.take(first, last, is_held, |Delivered { id, handle, tag }| {
            let own = if is_stated { None } else { ByDefault::of_link(outgoing, handle) };
            let (outcome, added) =
                own.map_or((outcome, &added), |ByDefault { outcome, added }| (*outcome, added));
            if let Some(added) = added {
                client.annotate(channel, tag, added.remark());
            }
            // One that is not known was not settled in time, and is settled now.
            let _ = client.settle(channel, tag, false, outcome);
            range = Some((range.map_or(id, |(first, _)| first), id));
        });
        if let Some((first, last)) = range
            && !disposition.settled
            && let Some(state) = &disposition.state
        {
            self.settling.push(Settling { channel, ids: (first, last), state: in_short(state) });
        }
    }

    /// The store is told what was settled. Whoever waits for the end of deliveries is told that when it is safe.
    pub(super) fn tell_settled(&mut self) {
        let Some(open) = &mut self.open else { return };
        if self.settling.is_empty() {
            return open.client.tell_store();
        }
        let (waiter, token) = self.outcomes.next();
        self.outcomes.expect(open.client.tell_store_to(&waiter, token));
        for Settling { channel, ids, state } in self.settling.drain(..) {
            let outcome = Outcome::Settled(Some(Box::new(state)));
            self.outcomes.put(Run { channel, token, ids, outcome, second: false });
        }
        self.outcomes.settle(&mut self.protocol);
    }

    /// Puts back what was delivered and not settled in time, and tells the client so. The link stays; it is given
    /// nothing new before the client settles that delivery.
    pub(super) fn requeue_overdue(&mut self, router: &mut dyn Router) {
        let Some(open) = &mut self.open else { return };
        let overdue = open.client.requeue_overdue(router.now_ms());
        let Some(first) = overdue.first() else { return };
        tracing::warn!(
            "{} deliveries to {} were not settled in time and are in their queues again: the first of queue '{}' in vhost \
             '{}', which had {} ms",
            overdue.len(),
            open.identity.connection,
            first.queue,
            open.vhost.name(),
            first.timeout_ms,
        );
        open.client.tell_store();
        for late in overdue {
            let session = open.sessions.get(&late.channel);
            let Some(id) = session.and_then(|session| session.sent.id_of(late.delivery_tag)) else {
                continue;
            };
            let state = DeliveryState::Released(leveret_amqp10::messaging::Released {});
            let disposition = Disposition {
                role: Role::Sender,
                first: id,
                last: None,
                settled: false,
                state: Some(state),
                batchable: false,
            };
            self.protocol.dispose(late.channel, &disposition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(sent: &mut Sent, first: u32, last: u32) -> Vec<(u32, u64)> {
        let mut taken = Vec::new();
        sent.take(first, last, |_| false, |delivered| taken.push((delivered.id, delivered.tag)));
        taken
    }

    #[test]
    fn each_is_taken_once_in_any_order_and_across_the_end_of_numbers() {
        let mut sent = Sent::default();
        let begin = u32::MAX - 2;
        for place in 0..6u32 {
            sent.push(begin.wrapping_add(place), place % 2, u64::from(place) + 1);
        }
        assert_eq!(taken(&mut sent, u32::MAX, u32::MAX), [(u32::MAX, 3)]);
        assert_eq!(taken(&mut sent, u32::MAX, 0), [(0, 4)]);
        assert_eq!(taken(&mut sent, 100, 200), []);
        assert_eq!(taken(&mut sent, begin.wrapping_sub(5), begin), [(begin, 1)]);
        assert_eq!(sent.id_of(5), Some(1));
        assert_eq!(sent.take_link(1, |_| false), [2, 6]);
        assert_eq!(taken(&mut sent, 0, 10), [(1, 5)]);
        assert_eq!((sent.live, sent.deliveries.len()), (0, 0));
    }

    #[test]
    fn what_is_put_back_is_taken_again_in_its_place() {
        let mut sent = Sent::default();
        (0..4).for_each(|id| sent.push(id, 0, u64::from(id) + 1));
        let mut taken_out = Vec::new();
        sent.take(0, 2, |_| false, |delivered| taken_out.push(delivered));
        taken_out.into_iter().rev().for_each(|delivered| sent.put_back(delivered));
        assert_eq!(taken(&mut sent, 0, 3), [(0, 1), (1, 2), (2, 3), (3, 4)]);
        assert_eq!(sent.live, 0);
    }

    #[test]
    fn what_is_held_stays_and_is_seen() {
        let mut sent = Sent::default();
        (0..4).for_each(|id| sent.push(id, 7, u64::from(id) + 1));
        let mut taken_out = Vec::new();
        sent.take(0, 2, |id| id == 1, |delivered| taken_out.push(delivered.id));
        assert_eq!(taken_out, [0, 2]);
        let seen = |first, last| sent.within(first, last).map(|delivered| delivered.id).collect::<Vec<_>>();
        assert_eq!((seen(0, 9), seen(2, 2), seen(3, 3)), (vec![1, 3], vec![], vec![3]));
        assert_eq!(sent.take_link(7, |id| id == 1), [4]);
        assert!(sent.take_link(7, |_| false).is_empty(), "of another link of that handle");
        assert_eq!(taken(&mut sent, 0, 9), [(1, 2)]);
    }

    #[test]
    fn what_waits_for_a_transaction_is_charged_once_for_all_that_have_it() {
        let account = Arc::new(MemoryAccount::new(100));
        let value = leveret_model::Value::Text("text".into());
        let header = AddedHeader { name: Name::from_static("x-a"), value, exact: None };
        let added = Added { headers: [header].into(), failed: false, due_ms: None, _charge: None };
        let bytes = added.bytes();
        let others = vec![added.charged(&account); 3];
        assert_eq!((account.bytes(), bytes > 7), (bytes as u64, true));
        drop(others);
        assert_eq!(account.bytes(), 0);
    }

    #[test]
    fn one_that_stays_keeps_few_tombstones() {
        let mut sent = Sent::default();
        sent.push(0, 0, 1);
        for id in 1..10_000 {
            sent.push(id, 0, u64::from(id) + 1);
            assert_eq!(taken(&mut sent, id, id).len(), 1);
            assert!(sent.deliveries.len() <= TOMBSTONES_MAX + 3);
        }
    }
}
