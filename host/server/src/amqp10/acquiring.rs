//! Messages that are acquired in a transaction (section 4.4.3).
//!
//! A client names a transaction in a flow; what its link is sent from then on, until the transaction is discharged, is part
//! of it. If that is committed these deliveries are as any others; if it is rolled back those that the client has not
//! settled are released. A large message that is still being sent by then is aborted: what the client has of it means
//! nothing.

use super::{Connection, links::Beside};
use leveret_amqp10::{
    Condition, Value,
    coordinator::{TransactionError, TransactionId},
    messaging::Released,
    performatives::{Disposition, Error, Role},
};
use leveret_broker::{Settle, port::Router};

impl Connection {
    /// What a link is sent from now on is part of a transaction. False if that cannot be; then the link is detached.
    pub(super) fn begin_acquiring(
        &mut self,
        (channel, handle): (u16, u32),
        txn_id: Value<'_>,
        router: &mut dyn Router,
    ) -> bool {
        let found = match txn_id {
            Value::Binary(txn_id) => self.transactions.open.find(txn_id),
            _ => Err(TransactionError::UnknownId),
        };
        let link = self.session(channel).and_then(|session| session.outgoing.get_mut(&handle));
        // What is settled when it is sent cannot go back, and a copy is no acquisition.
        let link = link.filter(|link| !link.settled && link.beside != Beside::Copied);
        let (condition, text) = match (link, found) {
            (Some(link), Ok(id)) => {
                link.beside = Beside::Acquired(id);
                return true;
            }
            (Some(_), Err(error)) => (error.condition(), error.to_string()),
            (None, _) => {
                (Condition::NotImplemented, "nothing is acquired in transactions on this link".to_owned())
            }
        };
        self.protocol.detach(channel, handle, true, Some(&Error::new(condition, &text)));
        self.on_detached(channel, handle, router);
        false
    }

    /// Deliveries were acquired.
    pub(super) fn note_acquired(&mut self) {
        for (id, delivery) in self.scratch.take_acquired() {
            if let Err(error) = self.transactions.open.acquire(id, delivery) {
                // It cannot be committed without that.
                let doomed = self.transactions.open.doom(id.as_bytes(), error);
                self.release_acquired(&[delivery]);
                doomed.into_iter().for_each(|ended| self.give_up(ended));
            }
        }
    }

    /// A transaction is over: no link acquires in it.
    pub(super) fn end_acquiring(&mut self, id: TransactionId) {
        let sessions = self.open.iter_mut().flat_map(|open| open.sessions.iter_mut());
        let links = sessions.flat_map(|(_, session)| session.outgoing.iter_mut());
        let of_it = links.map(|(_, link)| link).filter(|link| link.beside == Beside::Acquired(id));
        of_it.for_each(|link| link.beside = Beside::Nothing);
    }

    /// Deliveries were acquired in a transaction that is rolled back. To be followed by telling the store.
    pub(super) fn release_acquired(&mut self, acquired: &[(u16, u32)]) {
        let Some(open) = &mut self.open else { return };
        for (channel, id) in acquired.iter().copied() {
            let Some(session) = open.sessions.get_mut(&channel) else { continue };
            let transactions = &self.transactions;
            let mut taken = None;
            let is_held = |id| transactions.holds(channel, id);
            session.sent.take(id, id, is_held, |delivered| taken = Some(delivered));
            let Some(delivered) = taken else { continue };
            // It was delivered on that channel.
            let _ = open.client.settle(channel, delivered.tag, false, Settle::Requeue { failed: false });
            if self.departing.take_back(channel, id) {
                self.deliveries_wait = true;
                continue;
            }
            let disposition = Disposition {
                role: Role::Sender,
                first: id,
                settled: true,
                state: Some(Released {}.into()),
                ..Disposition::default()
            };
            self.protocol.dispose(channel, &disposition);
        }
    }
}
