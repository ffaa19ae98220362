//! The coordinator of transactions (sections 4.2 to 4.4): which deliveries and which outcomes belong to which transaction,
//! from declare to discharge.
//!
//! *In:* what a control link says ([`Transactions::declare`], [`Transactions::discharge`]), deliveries and outcomes that
//! name a transaction ([`Transactions::post`], [`Transactions::retire`]), links and sessions that end, and the time. *Out:*
//! an [`Ended`] for each transaction that is over, with all that was done in it, in its order: to be done now, or to be
//! given up. Nothing of a transaction happens before.
//!
//! ```text
//! (declare) -> live -> (discharge, fail = false) -> committed
//!                |---> (discharge, fail = true; its control link ends) -> rolled back
//!                '---> doomed: too much, too long, an outcome's session has ended -> (discharge) -> refused
//! ```
//! A transaction that is doomed is rolled back at once. Its identifier stays until it is discharged, so that whoever does
//! is told why, and not that there is no such transaction.
//!
//! *Not here:* what is posted and what an outcome does, whose types the caller brings; what a delivery says to its link
//! before the end: the presumptive outcome ([`presumptive`]), which the caller sends when it has taken a delivery. Parts of
//! deliveries, which only a [`Connection`](crate::connection::Connection) knows. Which links acquire in a transaction. Distributed
//! transactions.
//!
//! *Limits:* [`TransactionLimits`], for one connection, all of whose sessions share its transactions.

use crate::{
    Condition, DecodeError,
    message::{Body, Message},
    messaging::Outcome,
    transactions::{
        Discharge, LOCAL_TRANSACTIONS, MULTI_SSNS_PER_TXN, MULTI_TXNS_PER_SSN, Request, TransactionalState,
    },
    types::Symbol,
};
use alloc::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    vec::Vec,
};
use core::fmt;

/// What transactions can do here.
pub const CAPABILITIES: [Symbol<'static>; 3] = [LOCAL_TRANSACTIONS, MULTI_TXNS_PER_SSN, MULTI_SSNS_PER_TXN];

/// How much there may be at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionLimits {
    /// How many transactions, those that are doomed included.
    pub transactions_max: usize,
    /// How many deliveries and outcomes in one of them.
    pub work_max: usize,
    /// How many bytes of deliveries in all of them.
    pub bytes_max: usize,
    /// How long one may take, in milliseconds.
    pub time_out_ms: u64,
}

impl Default for TransactionLimits {
    fn default() -> Self {
        Self { transactions_max: 256, work_max: 65_536, bytes_max: 64 * 1024 * 1024, time_out_ms: 120_000 }
    }
}

/// A link of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId {
    /// Its session.
    pub channel: u16,
    /// Its handle.
    pub handle: u32,
}

/// The identifier of a transaction: eight bytes, unlike all others of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionId([u8; 8]);

impl TransactionId {
    /// As it stands in states.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Why something cannot be part of a transaction, or why one is not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionError {
    /// There is no such transaction, or it is of another control link.
    UnknownId,
    /// It took too long.
    TimeOut,
    /// It has more deliveries and outcomes, or more bytes of them, than there may be.
    TooMuch,
    /// There are as many transactions as there may be.
    TooMany,
    /// A session ended whose deliveries had outcomes in it.
    SessionEnded,
    /// Of a delivery that was posted in it a part is missing. The control link is to be detached with this
    /// (section 4.4.1).
    Partial,
    /// The delivery has an outcome in another transaction.
    OtherTransaction,
    /// Transactions of several resources are not done here.
    Distributed,
}

impl TransactionError {
    /// The condition by which it is named.
    #[must_use]
    pub fn condition(self) -> Condition {
        match self {
            Self::UnknownId => Condition::TransactionUnknownId,
            Self::TimeOut => Condition::TransactionTimeout,
            Self::TooMuch | Self::SessionEnded | Self::Partial => Condition::TransactionRollback,
            Self::TooMany => Condition::ResourceLimitExceeded,
            Self::OtherTransaction => Condition::IllegalState,
            Self::Distributed => Condition::NotImplemented,
        }
    }
}

impl fmt::Display for TransactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownId => "there is no such transaction on this link",
            Self::TimeOut => "the transaction took too long, and was rolled back",
            Self::TooMuch => "the transaction has more in it than there may be, and was rolled back",
            Self::TooMany => "there are as many transactions as there may be",
            Self::SessionEnded => {
                "a session ended whose deliveries were part of the transaction, and it was rolled back"
            }
            Self::Partial => "a delivery of the transaction has not come whole, and it was rolled back",
            Self::OtherTransaction => "the delivery is part of another transaction",
            Self::Distributed => "transactions of several resources are not done here",
        })
    }
}

impl core::error::Error for TransactionError {}

/// The outcome of a delivery that was sent to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired<O> {
    /// The session that it was sent in.
    pub channel: u16,
    /// Its number there.
    pub delivery_id: u32,
    /// What becomes of it.
    pub outcome: O,
}

/// A transaction that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended<P, O> {
    /// Its identifier, which means nothing any more but to a discharge that comes too late.
    pub id: TransactionId,
    /// What was posted, in its order.
    pub posted: Vec<P>,
    /// Outcomes, in the order of their sessions and deliveries.
    pub retired: Vec<Retired<O>>,
    /// What was acquired: sessions, and numbers of deliveries there, in order. Where it is given up they go back to where
    /// they came from, as far as they are not settled; else they are as any that were sent.
    pub acquired: Vec<(u16, u32)>,
    /// Whether all of it is to be done, or given up.
    pub verdict: Verdict,
}

/// What becomes of what was done in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done: each outcome counts from now on, and each delivery that was posted is taken. The discharge is accepted
    /// when it is.
    Commit,
    /// It is given up, as was asked for: the discharge is accepted. Deliveries are as they were before their outcomes
    /// were said; those that the client has settled by now go back to where they came from.
    RollBack,
    /// It is given up, and the discharge is rejected with this, if there was one.
    Refuse(TransactionError),
}

/// The transactions of a connection. What is posted is a `P`, an outcome an `O`.
#[derive(Debug)]
pub struct Transactions<P, O> {
    limits: TransactionLimits,
    all: BTreeMap<TransactionId, Transaction<P, O>>,
    /// In which transaction a delivery has its outcome, by its session and its number there.
    retired: BTreeMap<(u16, u32), TransactionId>,
    declared: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Transaction<P, O> {
    control: LinkId,
    deadline_ms: u64,
    /// Why it can only be refused. What was done in it is given up then.
    doom: Option<TransactionError>,
    posted: Vec<P>,
    /// Of what is posted, and of outcomes.
    bytes: usize,
    retired: BTreeMap<(u16, u32), O>,
    acquired: BTreeSet<(u16, u32)>,
}

impl<P, O> Transaction<P, O> {
    fn work(&self) -> usize {
        self.posted.len() + self.retired.len() + self.acquired.len()
    }
}

impl<P, O> Transactions<P, O> {
    /// Without transactions.
    #[must_use]
    pub fn new(limits: TransactionLimits) -> Self {
        Self { limits, all: BTreeMap::new(), retired: BTreeMap::new(), declared: 0, bytes: 0 }
    }

    /// Begins one (section 4.2), for the control link that asks.
    ///
    /// # Errors
    /// [`TransactionError::Distributed`] if it is to be part of another one, [`TransactionError::TooMany`].
    pub fn declare(
        &mut self,
        control: LinkId,
        is_distributed: bool,
        now_ms: u64,
    ) -> Result<TransactionId, TransactionError> {
        if is_distributed {
            return Err(TransactionError::Distributed);
        }
        if self.all.len() >= self.limits.transactions_max {
            return Err(TransactionError::TooMany);
        }
        self.declared += 1;
        let id = TransactionId(self.declared.to_be_bytes());
        let transaction = Transaction {
            control,
            deadline_ms: now_ms.saturating_add(self.limits.time_out_ms),
            doom: None,
            posted: Vec::new(),
            bytes: 0,
            retired: BTreeMap::new(),
            acquired: BTreeSet::new(),
        };
        self.all.insert(id, transaction);
        Ok(id)
    }

    /// The transaction that a state names.
    ///
    /// # Errors
    /// [`TransactionError::UnknownId`], or why it is doomed.
    pub fn find(&self, txn_id: &[u8]) -> Result<TransactionId, TransactionError> {
        let id = txn_id.try_into().map(TransactionId).map_err(|_| TransactionError::UnknownId)?;
        let transaction = self.all.get(&id).ok_or(TransactionError::UnknownId)?;
        transaction.doom.map_or(Ok(id), Err)
    }

    /// Makes a delivery of the client part of a transaction (section 4.4.1).
    ///
    /// # Errors
    /// As [`Self::find`], and [`TransactionError::TooMuch`]: then the caller is to [`doom`](Self::doom) it, for it cannot be
    /// committed without what did not fit.
    pub fn post(
        &mut self,
        txn_id: &[u8],
        bytes: usize,
        posted: P,
    ) -> Result<TransactionId, TransactionError> {
        let id = self.find(txn_id)?;
        let fits = self.bytes.saturating_add(bytes) <= self.limits.bytes_max;
        let Some(transaction) = self.all.get_mut(&id) else { return Err(TransactionError::UnknownId) };
        if !fits || transaction.work() >= self.limits.work_max {
            return Err(TransactionError::TooMuch);
        }
        transaction.posted.push(posted);
        transaction.bytes += bytes;
        self.bytes += bytes;
        Ok(id)
    }

    /// Makes the outcome of a delivery to the client part of a transaction (section 4.4.2). A later outcome in the same
    /// transaction takes its place.
    ///
    /// # Errors
    /// As [`Self::post`], and [`TransactionError::OtherTransaction`].
    pub fn retire(&mut self, txn_id: &[u8], retired: Retired<O>) -> Result<TransactionId, TransactionError> {
        let id = self.find(txn_id)?;
        let Retired { channel, delivery_id, outcome } = retired;
        let delivery = (channel, delivery_id);
        let Some(transaction) = self.all.get_mut(&id) else { return Err(TransactionError::UnknownId) };
        match self.retired.entry(delivery) {
            Entry::Occupied(other) if *other.get() != id => return Err(TransactionError::OtherTransaction),
            Entry::Occupied(_) => {}
            Entry::Vacant(_) if transaction.work() >= self.limits.work_max => {
                return Err(TransactionError::TooMuch);
            }
            Entry::Vacant(place) => {
                place.insert(id);
            }
        }
        transaction.retired.insert(delivery, outcome);
        Ok(id)
    }

    /// Makes a delivery to the client part of a transaction, in which it was acquired (section 4.4.3).
    ///
    /// # Errors
    /// As [`Self::post`].
    pub fn acquire(
        &mut self,
        id: TransactionId,
        (channel, delivery_id): (u16, u32),
    ) -> Result<(), TransactionError> {
        self.find(id.as_bytes())?;
        let Some(transaction) = self.all.get_mut(&id) else { return Err(TransactionError::UnknownId) };
        if transaction.work() >= self.limits.work_max {
            return Err(TransactionError::TooMuch);
        }
        transaction.acquired.insert((channel, delivery_id));
        Ok(())
    }

    /// Counts bytes that outcomes of a transaction take until its end.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub fn charge(&mut self, txn_id: &[u8], bytes: usize) -> Result<(), TransactionError> {
        let id = self.find(txn_id)?;
        let fits = self.bytes.saturating_add(bytes) <= self.limits.bytes_max;
        let Some(transaction) = self.all.get_mut(&id) else { return Err(TransactionError::UnknownId) };
        if !fits {
            return Err(TransactionError::TooMuch);
        }
        transaction.bytes += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// The transaction in which a delivery has its outcome. Until its end no other outcome of it counts.
    #[must_use]
    pub fn of_delivery(&self, channel: u16, delivery_id: u32) -> Option<TransactionId> {
        self.retired.get(&(channel, delivery_id)).copied()
    }

    /// Ends one as its control link asks (section 4.3). `is_partial` says whether of a delivery that was posted in it
    /// only a part has come.
    ///
    /// # Errors
    /// [`TransactionError::UnknownId`].
    pub fn discharge(
        &mut self,
        control: LinkId,
        discharge: &Discharge<'_>,
        is_partial: bool,
    ) -> Result<Ended<P, O>, TransactionError> {
        let id = discharge.txn_id.try_into().map(TransactionId).map_err(|_| TransactionError::UnknownId)?;
        let transaction = self.all.get(&id).filter(|transaction| transaction.control == control);
        let verdict = match transaction.ok_or(TransactionError::UnknownId)?.doom {
            _ if is_partial => Verdict::Refuse(TransactionError::Partial),
            _ if discharge.fail.unwrap_or(false) => Verdict::RollBack,
            Some(doom) => Verdict::Refuse(doom),
            None => Verdict::Commit,
        };
        let ended = self.take(id, verdict).ok_or(TransactionError::UnknownId)?;
        self.all.remove(&id);
        Ok(ended)
    }

    /// Dooms a transaction: something in it cannot be done. What was done in it is given up; nothing, if it is doomed
    /// already.
    pub fn doom(&mut self, txn_id: &[u8], why: TransactionError) -> Option<Ended<P, O>> {
        let id = self.find(txn_id).ok()?;
        let ended = self.take(id, Verdict::Refuse(why));
        if let Some(transaction) = self.all.get_mut(&id) {
            transaction.doom = Some(why);
        }
        ended
    }

    /// A link has ended: the transactions that it controls are rolled back and forgotten (section 4.2). Outcomes of
    /// deliveries that were sent on it stay where they are: a delivery is known by its session.
    pub fn link_ended(&mut self, link: LinkId) -> Vec<Ended<P, O>> {
        self.controls_ended(|control| control == link)
    }

    /// A session has ended: so have its links, and those in which deliveries of it have outcomes are doomed. What was acquired
    /// in it goes with it.
    pub fn session_ended(&mut self, channel: u16) -> Vec<Ended<P, O>> {
        self.all.values_mut().for_each(|transaction| transaction.acquired.retain(|(of, _)| *of != channel));
        let mut all_ended = self.controls_ended(|control| control.channel == channel);
        let has_outcome = |(_, transaction): &(_, &Transaction<P, O>)| {
            transaction.retired.keys().any(|(of, _)| *of == channel)
        };
        let ids: Vec<_> = self.all.iter().filter(has_outcome).map(|(id, _)| *id).collect();
        all_ended
            .extend(ids.iter().filter_map(|id| self.doom(id.as_bytes(), TransactionError::SessionEnded)));
        all_ended
    }

    fn controls_ended(&mut self, is_over: impl Fn(LinkId) -> bool) -> Vec<Ended<P, O>> {
        let over = self.all.iter().filter(|(_, transaction)| is_over(transaction.control));
        let ids: Vec<_> = over.map(|(id, transaction)| (*id, transaction.doom.is_none())).collect();
        let mut all_ended = Vec::new();
        for (id, is_live) in ids {
            all_ended.extend(self.take(id, Verdict::RollBack).filter(|_| is_live));
            self.all.remove(&id);
        }
        all_ended
    }

    /// When the next transaction will have taken too long, in milliseconds of the caller's clock.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let live = self.all.values().filter(|transaction| transaction.doom.is_none());
        live.map(|transaction| transaction.deadline_ms).min()
    }

    /// Dooms those that have taken too long.
    pub fn time_out(&mut self, now_ms: u64) -> Vec<Ended<P, O>> {
        let is_late =
            |transaction: &Transaction<P, O>| transaction.doom.is_none() && transaction.deadline_ms <= now_ms;
        let late: Vec<_> =
            self.all.iter().filter(|(_, transaction)| is_late(transaction)).map(|(id, _)| *id).collect();
        late.iter().filter_map(|id| self.doom(id.as_bytes(), TransactionError::TimeOut)).collect()
    }

    /// How many transactions there are, those that are doomed included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What was done in a transaction, which then has nothing in it.
    fn take(&mut self, id: TransactionId, verdict: Verdict) -> Option<Ended<P, O>> {
        let transaction = self.all.get_mut(&id)?;
        let retired = core::mem::take(&mut transaction.retired);
        let acquired = core::mem::take(&mut transaction.acquired).into_iter().collect();
        self.bytes -= core::mem::take(&mut transaction.bytes);
        for delivery in retired.keys() {
            self.retired.remove(delivery);
        }
        let retired = retired.into_iter().map(|((channel, delivery_id), outcome)| Retired {
            channel,
            delivery_id,
            outcome,
        });
        Some(Ended {
            id,
            posted: core::mem::take(&mut transaction.posted),
            retired: retired.collect(),
            acquired,
            verdict,
        })
    }
}

/// What a message to the coordinator asks for.
///
/// # Errors
/// If it is neither a declare nor a discharge, as its one amqp-value.
pub fn request<'a>(message: &Message<'a>) -> Result<Request<'a>, DecodeError> {
    match message.body() {
        Body::Value(content) => Request::from_content(content),
        Body::None | Body::Data(_) | Body::Sequence(_) => {
            Err(DecodeError::Content("a request to the coordinator"))
        }
    }
}

/// The state of a delivery that was posted, until its transaction ends: what becomes of it if that is committed. Before a
/// discharge is accepted every delivery that the client has not settled has to have it (section 4.4.1).
#[must_use]
pub fn presumptive<'a>(id: &'a TransactionId, outcome: Outcome<'a>) -> TransactionalState<'a> {
    TransactionalState { txn_id: id.as_bytes(), outcome: Some(outcome) }
}
