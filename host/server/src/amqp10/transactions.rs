//! Transactions (part 4): messages and outcomes that count together when they are discharged, or not at all.
//!
//! *In:* a link to the coordinator, on which transactions are declared and discharged; transfers and dispositions whose
//! state names one. *Out:* what is sent waits in the connection, and is told the provisional outcome accepted; outcomes
//! wait too. A commit is one group for the store, with what was settled in it, and is answered when that is safe. A
//! commit of which a message is not accepted is told as rolled back: what was settled is not then, and messages that
//! were accepted stay where they are, as with the other protocol's transactions.
//!
//! A transaction ends with its session and with the link that declared it: it is rolled back then. Deliveries that were
//! settled in it can be settled again.

use super::{
    Connection,
    links::Refused,
    outcomes::{Outcome, Run, Why},
    publish::{Incoming, views_of},
    settle::{Settled, settlement},
};
use leveret_amqp10::{
    Condition,
    connection::{Attached, Delivery},
    message::{Body, Message},
    messaging::{Accepted, DeliveryState},
    performatives::{Attach, Disposition, Role},
    transactions::{
        AnyTarget, Coordinator, Declared, LOCAL_TRANSACTIONS, MULTI_TXNS_PER_SSN, Request, TransactionalState,
    },
};
use leveret_broker::{
    MemoryAccount, Published, Transaction,
    port::{Router, Wake},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The credit of a link to the coordinator.
const CREDIT: u32 = 100;
/// How many transactions a connection has at most that are not discharged.
const TRANSACTIONS_MAX: usize = 1024;
/// How many bytes may wait for the discharge of a transaction.
const TRANSACTION_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a message that waits takes beside its bytes, about.
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// The transactions of a connection.
#[derive(Default)]
pub(super) struct Transactions {
    last_id: u64,
    open: BTreeMap<u64, Pending>,
    /// One whose messages wait for the answer of a type.
    committing: Option<Committing>,
}

impl Transactions {
    /// Whether the answer of a type is waited for.
    pub(super) fn is_waiting(&self) -> bool {
        self.committing.is_some()
    }
}

/// Links to the coordinator, of a session.
pub(super) type Coordinators = BTreeSet<u32>;

/// A transaction that is not discharged.
struct Pending {
    /// The session and the link that declared it.
    channel: u16,
    handle: u32,
    messages: Vec<Incoming<'static>>,
    settled: Vec<Settled>,
    /// What is charged for the messages.
    bytes: usize,
    account: Arc<MemoryAccount>,
    /// It cannot be committed any more.
    is_failed: bool,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.account.release(self.bytes);
    }
}

struct Committing {
    transaction: Transaction,
    pending: Pending,
    /// How many of the messages were dealt with.
    done: usize,
    /// A message was not accepted.
    is_partial: bool,
    /// The discharge.
    asked: Asked,
}

/// A request to the coordinator that is to be answered.
#[derive(Clone, Copy)]
struct Asked {
    channel: u16,
    id: u32,
    settled: bool,
}

fn id_of(txn_id: &[u8]) -> Option<u64> {
    txn_id.try_into().ok().map(u64::from_be_bytes)
}

impl Connection {
    /// A link to the coordinator.
    pub(super) fn attach_coordinator(&mut self, channel: u16, attach: &Attach<'_>) -> Result<(), Refused> {
        let capabilities = [LOCAL_TRANSACTIONS, MULTI_TXNS_PER_SSN];
        let coordinator =
            Coordinator { capabilities: leveret_amqp10::composite::Symbols::Slice(&capabilities) };
        let answer =
            Attached { target: Some(AnyTarget::Coordinator(coordinator)), ..Attached::as_asked(attach) };
        self.protocol.attached(channel, attach.handle, &answer);
        self.protocol.grant(channel, attach.handle, CREDIT);
        if let Some(session) = self.session(channel) {
            session.coordinators.insert(attach.handle);
        }
        Ok(())
    }

    /// Declare or discharge (4.5.2, 4.5.3).
    pub(super) fn on_coordination(&mut self, delivery: &Delivery<'_>, router: &mut dyn Router) {
        let (channel, handle) = (delivery.channel, delivery.handle);
        let asked = Asked { channel, id: delivery.delivery_id, settled: delivery.settled };
        let message = Message::new(&delivery.message);
        let request = match message.as_ref().map(Message::body) {
            Ok(Body::Value(content)) => Request::from_content(content).ok(),
            _ => None,
        };
        match request {
            None => self.refuse_request(asked, Condition::InvalidField, "neither declare nor discharge"),
            Some(Request::Declare(declare)) if declare.global_id.is_some() => {
                self.refuse_request(asked, Condition::NotImplemented, "transactions are local");
            }
            Some(Request::Declare(_)) => self.declare(asked, handle),
            Some(Request::Discharge(discharge)) => {
                let pending = id_of(discharge.txn_id).and_then(|id| self.transactions.open.remove(&id));
                let Some(pending) = pending else {
                    let text = "there is no such transaction";
                    return self.refuse_request(asked, Condition::TransactionUnknownId, text);
                };
                if discharge.fail == Some(true) {
                    self.roll_back(pending);
                    self.answer_discharge(asked, Outcome::Accepted, None);
                } else if pending.is_failed {
                    self.roll_back(pending);
                    self.tell_rolled_back(asked);
                } else {
                    let vhost = self.open.as_ref().map(|open| open.vhost.clone());
                    let Some(vhost) = vhost else { return };
                    let transaction = Transaction::begin(&vhost);
                    let committing = Committing { transaction, pending, done: 0, is_partial: false, asked };
                    self.commit(committing, router);
                }
            }
        }
        if self.protocol.credit(channel, handle) <= CREDIT / 2 {
            self.protocol.grant(channel, handle, CREDIT);
        }
    }

    fn declare(&mut self, asked: Asked, handle: u32) {
        let Some(open) = &self.open else { return };
        if self.transactions.open.len() >= TRANSACTIONS_MAX {
            return self.refuse_request(asked, Condition::ResourceLimitExceeded, "too many transactions");
        }
        self.transactions.last_id += 1;
        let (id, account) = (self.transactions.last_id, open.vhost.memory().clone());
        let pending = Pending {
            channel: asked.channel,
            handle,
            messages: Vec::new(),
            settled: Vec::new(),
            bytes: 0,
            account,
            is_failed: false,
        };
        self.transactions.open.insert(id, pending);
        let txn_id = id.to_be_bytes();
        let disposition = Disposition {
            role: Role::Receiver,
            first: asked.id,
            settled: true,
            state: Some(Declared { txn_id: &txn_id }.into()),
            ..Disposition::default()
        };
        self.protocol.dispose(asked.channel, &disposition);
    }

    fn refuse_request(&mut self, asked: Asked, condition: Condition, text: &str) {
        let why = Why { condition, description: text.to_owned(), reason: None };
        self.answer_discharge(asked, Outcome::Rejected(Box::new(why)), None);
    }

    fn tell_rolled_back(&mut self, asked: Asked) {
        let text = "a message of the transaction was not accepted";
        self.refuse_request(asked, Condition::TransactionRollback, text);
    }

    /// Tells the outcome of a request, as soon as what it tells of is safe.
    fn answer_discharge(
        &mut self,
        asked: Asked,
        outcome: Outcome,
        receipt: Option<&leveret_broker::Receipt>,
    ) {
        let (waiter, token) = self.outcomes.next();
        if let Some(receipt) = receipt {
            receipt.when_safe(&waiter, token);
            self.outcomes.expect(1);
        }
        if !asked.settled {
            let ids = (asked.id, asked.id);
            self.outcomes.put(Run { channel: asked.channel, token, ids, outcome, second: false });
        }
        self.outcomes.settle(&mut self.protocol);
    }

    /// A message that was sent in a transaction; whether there is that.
    pub(super) fn send_in_transaction(&mut self, txn_id: &[u8], incoming: Incoming<'static>) -> bool {
        let pending = id_of(txn_id).and_then(|id| self.transactions.open.get_mut(&id));
        let Some(pending) = pending else { return false };
        let (channel, id, settled, second) = incoming.told();
        let bytes = incoming.len_bytes() + MESSAGE_OVERHEAD_BYTES;
        if pending.bytes + bytes > TRANSACTION_BYTES_MAX {
            pending.is_failed = true;
        } else {
            pending.account.charge(bytes);
            pending.bytes += bytes;
            pending.messages.push(incoming);
        }
        if !settled {
            let state = TransactionalState { txn_id, outcome: Some(Accepted {}.into()) };
            let disposition = Disposition {
                role: Role::Receiver,
                first: id,
                settled: !second,
                state: Some(state.into()),
                ..Disposition::default()
            };
            self.protocol.dispose(channel, &disposition);
        }
        true
    }

    /// Deliveries get an outcome in a transaction; false if there is none of that id.
    pub(super) fn settle_in_transaction(
        &mut self,
        channel: u16,
        (first, last): (u32, u32),
        state: &TransactionalState<'_>,
        settled: bool,
    ) -> bool {
        let id = id_of(state.txn_id);
        let Some(pending) = id.and_then(|id| self.transactions.open.get_mut(&id)) else { return false };
        let outcome = state.outcome.map(DeliveryState::from);
        let Some(outcome) = settlement(outcome.as_ref(), true) else { return true };
        let Some(open) = &mut self.open else { return true };
        let Some(session) = open.sessions.get_mut(&channel) else { return true };
        session.sent.take(first, last, |delivered| {
            pending.settled.push(Settled { channel, delivered, outcome, is_to_be_told: !settled });
        });
        true
    }

    /// Goes on with a commit after a wake.
    pub(super) fn go_on_committing(&mut self, router: &mut dyn Router) {
        if let Some(committing) = self.transactions.committing.take() {
            self.commit(committing, router);
        }
    }

    fn commit(&mut self, mut committing: Committing, router: &mut dyn Router) {
        let Some(open) = &mut self.open else { return };
        let waker: Arc<dyn Wake> = self.wake.clone();
        let rest = committing.pending.messages.get(committing.done..).unwrap_or_default();
        let views = views_of(rest, &open.identity);
        let mut outcomes = Vec::with_capacity(views.len());
        let done = committing.transaction.publish(router, &views, &mut outcomes, &waker);
        let all = done >= views.len();
        let lengths = views.iter().take(outcomes.len()).map(|view| view.message.body.len());
        open.place.about().traffic.count_bodies(lengths);
        drop(views);
        open.count(rest, &outcomes, committing.transaction.take_routed());
        committing.done += done;
        self.publishing.slowed |= committing.transaction.is_behind();
        self.publishing.writes |= committing.transaction.take_writes();
        let is_accepted = |outcome: &Published| matches!(outcome, Published::Routed | Published::Dropped);
        committing.is_partial |= !outcomes.iter().all(is_accepted);
        if !all {
            self.transactions.committing = Some(committing);
            return;
        }
        let Committing { transaction, mut pending, is_partial, asked, .. } = committing;
        if is_partial {
            drop(transaction);
            self.roll_back(pending);
            return self.tell_rolled_back(asked);
        }
        let settled = std::mem::take(&mut pending.settled);
        for one in &settled {
            // It was delivered on that channel, unless its session is over.
            let _ = open.client.settle(one.channel, one.delivered.tag, false, one.outcome);
        }
        let receipt = transaction.end(&mut open.client, router);
        for one in settled.iter().filter(|one| one.is_to_be_told) {
            let disposition = Disposition {
                role: Role::Sender,
                first: one.delivered.id,
                settled: true,
                ..Disposition::default()
            };
            self.protocol.dispose(one.channel, &disposition);
        }
        self.end_settling(&mut true, router);
        self.answer_discharge(asked, Outcome::Accepted, Some(&receipt));
    }

    /// What was sent is forgotten, and what was settled can be settled again.
    fn roll_back(&mut self, mut pending: Pending) {
        let Some(open) = &mut self.open else { return };
        for one in std::mem::take(&mut pending.settled) {
            if let Some(session) = open.sessions.get_mut(&one.channel) {
                session.sent.put_back(one.delivered);
            }
        }
    }

    /// A link to the coordinator is gone, or its session: what it declared is rolled back.
    pub(super) fn end_transactions(&mut self, is_gone: impl Fn(u16, u32) -> bool) {
        let gone: Vec<u64> = self
            .transactions
            .open
            .iter()
            .filter(|(_, pending)| is_gone(pending.channel, pending.handle))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            if let Some(pending) = self.transactions.open.remove(&id) {
                self.roll_back(pending);
            }
        }
    }
}
