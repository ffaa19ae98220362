//! Transactions (part 4): messages and outcomes that count together when they are discharged, or not at all.
//!
//! *In:* a link to the coordinator, on which transactions are declared and discharged; transfers and dispositions whose
//! state names one. What belongs to which, and what becomes of it, is known by `leveret_amqp10::coordinator`. *Out:* what
//! is sent waits there, and is told the provisional outcome accepted; outcomes wait too. A commit is one group for the store, with what was settled in it, and is answered when that is safe. A
//! commit of which a message is not accepted is told as rolled back: what was settled is not then, and messages that
//! were accepted stay where they are, as with the other protocol's transactions.
//!
//! Deliveries with an outcome in a transaction that is rolled back are as they were before (section 4.4.4): they can be
//! settled again. Those that the client has settled, and can no longer speak of, have the source's default outcome, which is
//! released if the client has not said another. A link that ends meanwhile takes nothing of a transaction along; what it had goes back at the roll-back.

use super::{
    Connection, Open,
    charge::Charge,
    links::Refused,
    outcomes::{Outcome, Run, Why},
    publish::{Incoming, views_of},
    settle::{Added, ByDefault, Delivered, settlement},
};
use leveret_amqp10::{
    Condition,
    composite::Symbols,
    connection::{Attached, Delivery},
    coordinator::{self, CAPABILITIES, Ended, LinkId, Retired, TransactionError, TransactionLimits, Verdict},
    message::Message,
    messaging::{self, Accepted, DeliveryState, Source},
    performatives::{Attach, Disposition, Error, Role},
    transactions::{AnyTarget, Coordinator, Declared, Discharge, Request, TransactionalState},
};
use leveret_broker::{
    Published, Receipt, Settle, Transaction,
    port::{Router, Wake},
};
use std::{collections::BTreeMap, sync::Arc};

/// The credit of a link to the coordinator.
const CREDIT: u32 = 100;
/// What a message that waits takes beside its bytes, about.
const MESSAGE_OVERHEAD_BYTES: usize = 256;
/// What a connection may have open. Clients keep a transaction open while they wait for messages, so none takes too long.
const LIMITS: TransactionLimits = TransactionLimits {
    transactions_max: 1024,
    work_max: 65_536,
    bytes_max: 64 * 1024 * 1024,
    time_out_ms: u64::MAX,
};

/// The transactions of a connection.
pub(super) struct Transactions {
    pub(super) open: coordinator::Transactions<Posted, Retirement>,
    /// One whose messages wait for the answer of a type.
    committing: Option<Committing>,
}

impl Default for Transactions {
    fn default() -> Self {
        Self { open: coordinator::Transactions::new(LIMITS), committing: None }
    }
}

impl Transactions {
    /// Whether the answer of a type is waited for.
    pub(super) fn is_waiting(&self) -> bool {
        self.committing.is_some()
    }

    /// Whether a delivery has an outcome in a transaction: no other counts until its end.
    pub(super) fn holds(&self, channel: u16, delivery_id: u32) -> bool {
        self.open.of_delivery(channel, delivery_id).is_some()
    }

    /// A link is gone while deliveries of it are being committed.
    pub(super) fn forget_link(&mut self, channel: u16, handle: u32) {
        let settled = self.committing.iter_mut().flat_map(|committing| &mut committing.settled);
        let of_link = |one: &&mut Settled| one.channel == channel && one.delivered.handle == Some(handle);
        settled.filter(of_link).for_each(|one| one.delivered.handle = None);
    }
}

/// Links to the coordinator, of a session, and what their clients are told there.
pub(super) type Coordinators = BTreeMap<u32, Tells>;

/// How a request is refused (sections 4.2 and 4.3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tells {
    /// It is rejected.
    Rejections,
    /// Its link ends: the source of that has no such outcome.
    Ends,
}

/// A message that waits for the discharge.
pub(super) struct Posted {
    message: Incoming<'static>,
    /// What memory is charged meanwhile.
    charge: Charge,
}

/// What becomes of a delivery with the discharge.
pub(super) struct Retirement {
    outcome: Settle,
    /// What is added to the message.
    added: Option<Added>,
    /// The client waits to hear that it is settled.
    is_to_be_told: bool,
}

/// A delivery with its outcome in a transaction that is being committed, or given up.
struct Settled {
    channel: u16,
    delivered: Delivered,
    retirement: Retirement,
}

impl Open {
    /// Takes deliveries out of their sessions. One that is not there was put back since it was not settled in time.
    fn take_settled(&mut self, retired: Vec<Retired<Retirement>>) -> Vec<Settled> {
        let mut settled = Vec::with_capacity(retired.len());
        for Retired { channel, delivery_id, outcome: retirement } in retired {
            let Some(session) = self.sessions.get_mut(&channel) else { continue };
            let mut taken = None;
            session.sent.take(delivery_id, delivery_id, |_| false, |delivered| taken = Some(delivered));
            settled.extend(taken.map(|delivered| Settled { channel, delivered, retirement }));
        }
        settled
    }

    /// The outcome of a delivery does not count (section 4.4.4). To be followed by telling the store.
    fn give_up(&mut self, Settled { channel, delivered, retirement }: Settled) {
        let Some(session) = self.sessions.get_mut(&channel) else { return };
        if retirement.is_to_be_told && delivered.handle.is_some() {
            return session.sent.put_back(delivered);
        }
        // With its link it would have gone back as one that was not settled.
        let released = Settle::Requeue { failed: false };
        let own = ByDefault::of_link(&session.outgoing, delivered.handle);
        let outcome = own.map_or(released, |own| own.outcome);
        if let Some(added) = own.and_then(|own| own.added.as_ref()) {
            self.client.annotate(channel, delivered.tag, added.remark());
        }
        // It was delivered on that channel.
        let _ = self.client.settle(channel, delivered.tag, false, outcome);
    }
}

/// Whether a controller knows of messages that are rejected.
fn knows_rejected(source: Option<&Source<'_>>) -> bool {
    source.is_none_or(|source| {
        let named = source.outcomes;
        named.iter().next().is_none()
            || named.contains("amqp:rejected:list")
            || matches!(source.default_outcome, Some(messaging::Outcome::Rejected(_)))
    })
}

struct Committing {
    transaction: Transaction,
    messages: Vec<Incoming<'static>>,
    settled: Vec<Settled>,
    /// Deliveries that were acquired in it.
    acquired: Vec<(u16, u32)>,
    /// Of the messages.
    charges: Vec<Charge>,
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
    handle: u32,
    id: u32,
}

impl Connection {
    /// A link to the coordinator.
    pub(super) fn attach_coordinator(&mut self, channel: u16, attach: &Attach<'_>) -> Result<(), Refused> {
        let coordinator = Coordinator { capabilities: Symbols::Slice(&CAPABILITIES) };
        let answer =
            Attached { target: Some(AnyTarget::Coordinator(coordinator)), ..Attached::as_asked(attach) };
        self.protocol.attached(channel, attach.handle, &answer);
        self.protocol.grant(channel, attach.handle, CREDIT);
        if let Some(session) = self.session(channel) {
            let tells = if knows_rejected(attach.source.as_ref()) { Tells::Rejections } else { Tells::Ends };
            session.coordinators.insert(attach.handle, tells);
        }
        Ok(())
    }

    /// Declare or discharge (4.5.2, 4.5.3).
    pub(super) fn on_coordination(&mut self, delivery: &Delivery<'_>, router: &mut dyn Router) {
        let (channel, handle) = (delivery.channel, delivery.handle);
        let asked = Asked { channel, handle, id: delivery.delivery_id };
        let control = LinkId { channel, handle };
        if delivery.settled {
            // Sections 4.2 and 4.3: whoever asks has to hear of the outcome.
            let text = "declare and discharge are not to be sent settled";
            return self.end_coordination(asked, Condition::InvalidField, text, router);
        }
        let message = match Message::new(&delivery.message) {
            Ok(message) => message,
            Err(error) => {
                return self.refuse_request(asked, Condition::DecodeError, &error.to_string(), router);
            }
        };
        match coordinator::request(&message).ok() {
            None => {
                self.refuse_request(asked, Condition::InvalidField, "neither declare nor discharge", router);
            }
            Some(Request::Declare(declare)) => {
                let is_distributed = declare.global_id.is_some();
                match self.transactions.open.declare(control, is_distributed, router.now_ms()) {
                    Ok(id) => self.tell_declared(asked, id.as_bytes()),
                    Err(error) => self.refuse_with(asked, error, router),
                }
            }
            Some(Request::Discharge(discharge)) => self.discharge(asked, control, &discharge, router),
        }
        self.renew_requests_of_transactions(channel, handle);
    }

    /// Renews the credit of a link to the coordinator, at the half.
    pub(super) fn renew_requests_of_transactions(&mut self, channel: u16, handle: u32) {
        if self.protocol.credit(channel, handle) <= CREDIT / 2 {
            self.protocol.grant(channel, handle, CREDIT);
        }
    }

    fn tell_declared(&mut self, asked: Asked, txn_id: &[u8]) {
        let disposition = Disposition {
            role: Role::Receiver,
            first: asked.id,
            settled: true,
            state: Some(Declared { txn_id }.into()),
            ..Disposition::default()
        };
        self.protocol.dispose(asked.channel, &disposition);
    }

    fn discharge(
        &mut self,
        asked: Asked,
        control: LinkId,
        discharge: &Discharge<'_>,
        router: &mut dyn Router,
    ) {
        let is_partial = self.protocol.has_partial(discharge.txn_id);
        let ended = match self.transactions.open.discharge(control, discharge, is_partial) {
            Ok(ended) => ended,
            Err(error) => return self.refuse_with(asked, error, router),
        };
        self.end_acquiring(ended.id);
        match ended.verdict {
            Verdict::Commit => self.begin_commit(asked, ended, router),
            Verdict::RollBack => {
                self.give_up(ended);
                self.answer_discharge(asked, Outcome::Accepted, None);
            }
            Verdict::Refuse(error) => {
                self.give_up(ended);
                self.refuse_with(asked, error, router);
                if error == TransactionError::Partial {
                    let LinkId { channel, handle } = control;
                    let text = error.to_string();
                    let error = Error::new(error.condition(), &text);
                    self.protocol.detach(channel, handle, true, Some(&error));
                    self.on_detached(channel, handle, router);
                }
            }
        }
    }

    fn begin_commit(&mut self, asked: Asked, ended: Ended<Posted, Retirement>, router: &mut dyn Router) {
        let Some(open) = &mut self.open else { return };
        let (settled, acquired) = (open.take_settled(ended.retired), ended.acquired);
        let (messages, charges) = ended.posted.into_iter().map(|one| (one.message, one.charge)).unzip();
        let transaction = Transaction::begin(&open.vhost);
        let (done, is_partial) = (0, false);
        let committing =
            Committing { transaction, messages, settled, acquired, charges, done, is_partial, asked };
        self.commit(committing, router);
    }

    fn refuse_with(&mut self, asked: Asked, error: TransactionError, router: &mut dyn Router) {
        self.refuse_request(asked, error.condition(), &error.to_string(), router);
    }

    fn refuse_request(&mut self, asked: Asked, condition: Condition, text: &str, router: &mut dyn Router) {
        let Asked { channel, handle, .. } = asked;
        let tells = self.session(channel).and_then(|session| session.coordinators.get(&handle));
        if tells == Some(&Tells::Ends) {
            return self.end_coordination(asked, condition, text, router);
        }
        let why = Why { condition, description: text.to_owned(), reason: None, queue: None };
        self.answer_discharge(asked, Outcome::Rejected(Box::new(why)), None);
    }

    /// A link to the coordinator is over, and so are its transactions.
    fn end_coordination(&mut self, asked: Asked, condition: Condition, text: &str, router: &mut dyn Router) {
        let Asked { channel, handle, .. } = asked;
        self.protocol.detach(channel, handle, true, Some(&Error::new(condition, text)));
        self.on_detached(channel, handle, router);
    }

    fn tell_rolled_back(&mut self, asked: Asked, router: &mut dyn Router) {
        let text = "a message of the transaction was not accepted";
        self.refuse_request(asked, Condition::TransactionRollback, text, router);
    }

    /// Tells the outcome of a request, as soon as what it tells of is safe.
    fn answer_discharge(&mut self, asked: Asked, outcome: Outcome, receipt: Option<&Receipt>) {
        let (waiter, token) = self.outcomes.next();
        if let Some(receipt) = receipt {
            receipt.when_safe(&waiter, token);
            self.outcomes.expect(1);
        }
        let ids = (asked.id, asked.id);
        self.outcomes.put(Run { channel: asked.channel, token, ids, outcome, second: false });
        self.outcomes.settle(&mut self.protocol);
    }

    /// A message that was sent in a transaction.
    ///
    /// # Errors
    /// It is none that messages can be sent in.
    pub(super) fn send_in_transaction(
        &mut self,
        txn_id: &[u8],
        message: Incoming<'static>,
    ) -> Result<(), TransactionError> {
        let Some(open) = &self.open else { return Err(TransactionError::UnknownId) };
        let (channel, id, settled, second) = message.told();
        let bytes = message.len_bytes() + MESSAGE_OVERHEAD_BYTES;
        let posted = Posted { message, charge: Charge::new(open.vhost.memory().clone(), bytes) };
        let mut doomed = None;
        let transaction = self.transactions.open.post(txn_id, bytes, posted).inspect_err(|error| {
            if *error == TransactionError::TooMuch {
                doomed = self.transactions.open.doom(txn_id, *error);
            }
        });
        if let Some(ended) = doomed {
            self.give_up(ended);
        }
        let transaction = transaction?;
        if !settled {
            let state = coordinator::presumptive(&transaction, Accepted {}.into());
            let disposition = Disposition {
                role: Role::Receiver,
                first: id,
                settled: !second,
                state: Some(state.into()),
                ..Disposition::default()
            };
            self.protocol.dispose(channel, &disposition);
        }
        Ok(())
    }

    /// Deliveries get an outcome in a transaction. What a transaction that is doomed is told is told by its discharge.
    ///
    /// # Errors
    /// There is no such transaction, or a delivery has its outcome in another.
    pub(super) fn settle_in_transaction(
        &mut self,
        channel: u16,
        (first, last): (u32, u32),
        state: &TransactionalState<'_>,
        settled: bool,
    ) -> Result<(), TransactionError> {
        match self.transactions.open.find(state.txn_id) {
            Ok(_) => {}
            Err(TransactionError::UnknownId) => return Err(TransactionError::UnknownId),
            Err(_) => return Ok(()),
        }
        let outcome = state.outcome.map(DeliveryState::from);
        let (added, is_stated) = (Added::by(outcome.as_ref()), outcome.is_some());
        let Some(outcome) = settlement(outcome.as_ref(), true) else { return Ok(()) };
        let mut doomed = None;
        let bytes = added.as_ref().map_or(0, Added::bytes);
        if bytes > 0
            && let Err(error) = self.transactions.open.charge(state.txn_id, bytes)
        {
            if let Some(ended) = self.transactions.open.doom(state.txn_id, error) {
                self.give_up(ended);
            }
            return Ok(());
        }
        let added = added.map(|added| added.charged(&self.shared.memory));
        let Some(session) = self.open.as_ref().and_then(|open| open.sessions.get(&channel)) else {
            return Ok(());
        };
        for delivered in session.sent.within(first, last) {
            let own = if is_stated { None } else { ByDefault::of_link(&session.outgoing, delivered.handle) };
            let (outcome, added) = own.map_or((outcome, &added), |own| (own.outcome, &own.added));
            let outcome = Retirement { outcome, added: added.clone(), is_to_be_told: !settled };
            let retired = Retired { channel, delivery_id: delivered.id, outcome };
            match self.transactions.open.retire(state.txn_id, retired) {
                Ok(_) => {}
                Err(error @ TransactionError::TooMuch) => {
                    doomed = self.transactions.open.doom(state.txn_id, error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(ended) = doomed {
            self.give_up(ended);
        }
        Ok(())
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
        let rest = committing.messages.get(committing.done..).unwrap_or_default();
        let views = views_of(rest, &open.identity);
        let mut outcomes = Vec::with_capacity(views.len());
        let done = committing.transaction.publish(router, &views, &mut outcomes, &waker);
        let all = done >= views.len();
        let lengths = views.iter().take(outcomes.len()).map(|view| view.message.body_bytes() as usize);
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
        let Committing { mut transaction, settled, acquired, charges, is_partial, asked, .. } = committing;
        drop(charges);
        if is_partial {
            drop(transaction);
            self.give_up_all(settled, &acquired);
            return self.tell_rolled_back(asked, router);
        }
        for Settled { channel, delivered, retirement } in &settled {
            if let Some(added) = &retirement.added {
                transaction.annotate(&mut open.client, *channel, delivered.tag, added.remark());
            }
            // It was delivered on that channel, unless its session is over.
            let _ = open.client.settle(*channel, delivered.tag, false, retirement.outcome);
        }
        let receipt = transaction.end(&mut open.client, router);
        let is_told = |one: &&Settled| one.retirement.is_to_be_told && one.delivered.handle.is_some();
        for one in settled.iter().filter(is_told) {
            let disposition = Disposition {
                role: Role::Sender,
                first: one.delivered.id,
                settled: true,
                ..Disposition::default()
            };
            self.protocol.dispose(one.channel, &disposition);
        }
        self.end_settling(&mut true, router);
        self.answer_discharge(asked, Outcome::Committed, Some(&receipt));
    }

    /// A transaction is over, and nothing of it counts.
    pub(super) fn give_up(&mut self, ended: Ended<Posted, Retirement>) {
        self.end_acquiring(ended.id);
        let Some(open) = &mut self.open else { return };
        let settled = open.take_settled(ended.retired);
        self.give_up_all(settled, &ended.acquired);
    }

    fn give_up_all(&mut self, settled: Vec<Settled>, acquired: &[(u16, u32)]) {
        let Some(open) = &mut self.open else { return };
        settled.into_iter().for_each(|one| open.give_up(one));
        self.release_acquired(acquired);
        let Some(open) = &mut self.open else { return };
        open.client.tell_store();
        self.deliveries_wait = true;
    }

    /// A link has ended, perhaps one to the coordinator.
    pub(super) fn end_transactions_of_link(&mut self, channel: u16, handle: u32) {
        let all_ended = self.transactions.open.link_ended(LinkId { channel, handle });
        all_ended.into_iter().for_each(|ended| self.give_up(ended));
    }

    /// A session is about to end, with all of its links.
    pub(super) fn end_transactions_of_session(&mut self, channel: u16) {
        let all_ended = self.transactions.open.session_ended(channel);
        all_ended.into_iter().for_each(|ended| self.give_up(ended));
    }
}
