//! Outcomes of published messages that wait until what they tell of is safe (section 3.4).
//!
//! *In:* what became of the messages of a batch, and under which token the store tells that the batch is safe. *Out:*
//! dispositions in the order of the transfers, one for as many as follow each other and are alike.

use super::received::Tracked;
use crate::{connection::ConnectionWake, told::Told};
use leveret_amqp10::{
    Condition,
    composite::Fields,
    connection::Connection,
    messaging::{Accepted, DeliveryState, Rejected, Released},
    performatives::{Disposition, Error, Role},
    types::{MapBuilder, Symbol},
};
use leveret_broker::store::Written;
use leveret_model::Name;
use std::{collections::VecDeque, sync::Arc};

/// The outcomes of a connection that are not told yet.
pub(super) struct Outcomes {
    told: Arc<Told>,
    last_token: u64,
    /// Batches that are not safe yet, and those behind them, in order.
    batches: VecDeque<Batch>,
    runs: VecDeque<Run>,
    /// What is noted of deliveries on links that can be resumed.
    pub(super) tracked: Tracked,
}

struct Batch {
    token: u64,
    /// How often the store is still to tell of it.
    left: u32,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    Accepted,
    /// The same of a sender that knows nothing of messages that are released: it is rejected if it is not on disk.
    AcceptedOrRejected,
    /// A transaction is discharged, and is accepted if that is safe.
    Committed,
    Released,
    Rejected(Box<Why>),
    /// Of deliveries from here: their receiver has told that state and waits for its end, which is on disk once that is
    /// told. `None` if it is not, and nobody is told.
    Settled(Option<Box<DeliveryState<'static>>>),
}

impl Outcome {
    fn rejected(condition: Condition, description: &str) -> Self {
        let description = description.to_owned();
        Self::Rejected(Box::new(Why { condition, description, reason: None, queue: None }))
    }

    /// What it tells of is not on disk.
    pub(super) fn lose(&mut self) {
        match self {
            // The client may send it again.
            Self::Accepted => *self = Self::Released,
            Self::AcceptedOrRejected => {
                *self = Self::rejected(Condition::InternalError, "the message could not be written");
            }
            // Of a discharge nothing but this says that it failed.
            Self::Committed => {
                *self =
                    Self::rejected(Condition::TransactionRollback, "the transaction could not be written");
            }
            Self::Settled(state) => *state = None,
            Self::Released | Self::Rejected(_) => {}
        }
    }
}

/// Why a message is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) condition: Condition,
    pub(super) description: String,
    /// The same for programs.
    pub(super) reason: Option<&'static str>,
    /// The queue that did not accept it.
    pub(super) queue: Option<Name>,
}

/// Deliveries of a session that follow each other and have the same outcome.
pub(super) struct Run {
    pub(super) channel: u16,
    /// Their batch.
    pub(super) token: u64,
    /// The first and the last.
    pub(super) ids: (u32, u32),
    pub(super) outcome: Outcome,
    /// The sender settles after it has heard of the outcome (receiver settle mode `second`).
    pub(super) second: bool,
}

impl Run {
    /// Whether it is of deliveries that came.
    pub(super) fn came(&self) -> bool {
        !matches!(self.outcome, Outcome::Settled(_))
    }

    fn is_followed_by(&self, next: &Self) -> bool {
        self.channel == next.channel
            && self.second == next.second
            && self.ids.1.wrapping_add(1) == next.ids.0
            && self.outcome == next.outcome
            && !matches!(self.outcome, Outcome::Rejected(_))
    }

    pub(super) fn tell(&self, protocol: &mut Connection) {
        let mut info = MapBuilder::new();
        let state: DeliveryState<'_> = match &self.outcome {
            Outcome::Settled(None) => return,
            Outcome::Settled(Some(state)) => **state,
            Outcome::Accepted | Outcome::AcceptedOrRejected | Outcome::Committed => Accepted {}.into(),
            Outcome::Released => Released {}.into(),
            Outcome::Rejected(why) => {
                let queue = why.queue.as_ref().and_then(|queue| str::from_utf8(queue).ok());
                if let Some(queue) = queue {
                    info.push(Symbol::from_static("queue"), queue);
                }
                if let Some(reason) = why.reason.and_then(Symbol::new) {
                    info.push(Symbol::from_static("reason"), reason);
                }
                let info = if info.view().is_empty() { None } else { Fields::new(info.view()) };
                Rejected { error: Some(Error { info, ..Error::new(why.condition, &why.description) }) }.into()
            }
        };
        let (first, last) = self.ids;
        let disposition = Disposition {
            role: if self.came() { Role::Receiver } else { Role::Sender },
            first,
            last: (last != first).then_some(last),
            settled: !self.second,
            state: Some(state),
            batchable: false,
        };
        protocol.dispose(self.channel, &disposition);
    }
}

impl Outcomes {
    pub(super) fn new(connection: Arc<ConnectionWake>) -> Self {
        let (told, tracked) = (Told::new(connection.clone()), Tracked::new(connection));
        Self { told, last_token: 0, batches: VecDeque::new(), runs: VecDeque::new(), tracked }
    }

    /// Whom the store is to tell of the next batch, and under which token.
    pub(super) fn next(&mut self) -> (Arc<dyn Written>, u64) {
        self.last_token += 1;
        (self.told.clone(), self.last_token)
    }

    /// The store will tell so often of the batch that was numbered last.
    pub(super) fn expect(&mut self, groups: u32) {
        if groups > 0 {
            self.batches.push_back(Batch { token: self.last_token, left: groups });
        }
    }

    /// Tells an outcome as soon as all before it may be told.
    pub(super) fn put(&mut self, run: Run) {
        match self.runs.back_mut() {
            Some(last) if last.is_followed_by(&run) && last.token == run.token => last.ids.1 = run.ids.1,
            _ => self.runs.push_back(run),
        }
    }

    /// Tells what is safe by now.
    pub(super) fn settle(&mut self, protocol: &mut Connection) {
        let told = self.told.take();
        for (token, is_safe) in told {
            let at = self.batches.binary_search_by_key(&token, |batch| batch.token);
            let Some(batch) = at.ok().and_then(|at| self.batches.get_mut(at)) else { continue };
            batch.left = batch.left.saturating_sub(1);
            if !is_safe {
                let lost = self.runs.iter_mut().filter(|run| run.token == token);
                lost.for_each(|run| run.outcome.lose());
                self.tracked.lose(token);
            }
        }
        while self.batches.pop_front_if(|batch| batch.left == 0).is_some() {}
        let unsafe_from = self.batches.front().map_or(u64::MAX, |batch| batch.token);
        self.tracked.on_safe(unsafe_from);
        let mut joined: Option<Run> = None;
        while let Some(run) = self.runs.pop_front_if(|run| run.token < unsafe_from) {
            match &mut joined {
                Some(last) if last.is_followed_by(&run) => last.ids.1 = run.ids.1,
                _ => {
                    if let Some(done) = joined.replace(run) {
                        self.tell(&done, protocol);
                    }
                }
            }
        }
        if let Some(done) = joined {
            self.tell(&done, protocol);
        }
    }

    fn tell(&mut self, run: &Run, protocol: &mut Connection) {
        if run.came() {
            self.tracked.on_told(run);
        }
        run.tell(protocol);
    }

    /// A session is over: nobody waits for its outcomes.
    pub(super) fn forget(&mut self, channel: u16) {
        if self.tracked.has_any() {
            self.tracked.forget_session(channel, self.runs.make_contiguous());
        }
        self.runs.retain(|run| run.channel != channel);
    }

    /// Whether somebody may still want to know of outcomes, though the connection is over.
    pub(super) fn is_owed(&self) -> bool {
        self.tracked.is_owed() || self.tracked.has_any() && !self.runs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_amqp10::{
        Performative,
        connection::{ConnectionConfig, Event},
        frame::{self, AMQP, ProtocolId},
        performatives::{Begin, Open},
        sasl::Mechanism,
        security::Init,
    };
    use leveret_broker::store::StoreFailure;

    /// A connection with a session on channel 0.
    fn begun() -> Connection {
        let config =
            ConnectionConfig { mechanisms: Arc::new([Mechanism::Anonymous]), ..ConnectionConfig::default() };
        let mut connection = Connection::new(Arc::new(config));
        let mut words = ProtocolId::Sasl.header().to_vec();
        let mechanism = Symbol::from_static("ANONYMOUS");
        frame::put_sasl(&mut words, &Init { mechanism, ..Init::default() });
        words.extend(ProtocolId::Amqp.header());
        frame::put_performative(&mut words, 0, &Open { container_id: "client", ..Open::default() });
        frame::put_performative(&mut words, 0, &Begin::default());
        let mut used = 0;
        loop {
            let (took, event) = connection.next(&words[used..]);
            used += took;
            match event {
                Some(Event::Sasl(_)) => connection.sasl().unwrap().authenticated(),
                Some(Event::Open(_)) => connection.opened(),
                Some(_) => {}
                None => break,
            }
        }
        connection.output().clear();
        connection
    }

    /// What is told of a delivery of which the store says that it is not safe.
    fn lost(outcome: Outcome) -> String {
        let mut connection = begun();
        let mut outcomes = Outcomes::new(Arc::new(ConnectionWake::default()));
        let (told, token) = outcomes.next();
        outcomes.expect(1);
        outcomes.put(Run { channel: 0, token, ids: (7, 7), outcome, second: false });
        outcomes.settle(&mut connection);
        assert!(connection.output().is_empty(), "before the store has said anything");
        told.written(token, Err(StoreFailure("the disk fails".into())));
        outcomes.settle(&mut connection);
        let output = connection.output().clone();
        let frame = frame::split(&output, AMQP, u32::MAX).unwrap().unwrap();
        match Performative::from_body(frame.body).unwrap().0 {
            Performative::Disposition(it) if (it.first, it.settled) == (7, true) => match it.state {
                Some(DeliveryState::Rejected(Rejected { error })) => error.unwrap().condition.to_string(),
                Some(DeliveryState::Released(_)) => "released".to_owned(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_could_not_be_written_is_released_and_a_commit_is_rejected() {
        assert_eq!(lost(Outcome::Accepted), "released");
        assert_eq!(lost(Outcome::AcceptedOrRejected), "amqp:internal-error");
        assert_eq!(lost(Outcome::Committed), "amqp:transaction:rollback");
    }
}
