//! Confirms that wait until what they confirm is safe (confirms are RabbitMQ's extension of AMQP 0-9-1).
//!
//! *In:* what became of the publishes of a batch, and under which token the store tells that the batch is safe.
//! *Out:* acks and nacks, in the order of the publishes, one for as many as follow each other. What is not to be
//! written waits only behind what is.

use crate::{connection::ConnectionWake, told::Told};
use leveret_amqp091::Session;
use leveret_broker::store::Written;
use std::{collections::VecDeque, sync::Arc};

/// The confirms of a connection.
pub(super) struct Confirms {
    told: Arc<Told>,
    last_token: u64,
    /// Batches that are not safe yet, and those behind them, in order.
    batches: VecDeque<Batch>,
    runs: VecDeque<Run>,
}

/// Publishes that are written together.
struct Batch {
    token: u64,
    /// How often the store is still to tell of it.
    left: u32,
}

/// Publishes of a channel that follow each other and are confirmed alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) channel: u16,
    /// Their batch.
    pub(super) token: u64,
    /// The numbers of the first and the last.
    pub(super) numbers: (u64, u64),
    /// Accepted, or not.
    pub(super) accepted: bool,
}

impl Confirms {
    pub(super) fn new(connection: Arc<ConnectionWake>) -> Self {
        let told = Told::new(connection);
        Self { told, last_token: 0, batches: VecDeque::new(), runs: VecDeque::new() }
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

    /// Confirms a run, at once if nothing is waited for.
    pub(super) fn put(&mut self, run: Run, session: &mut Session) {
        if self.batches.is_empty() && self.runs.is_empty() {
            return confirm(run, session);
        }
        match self.runs.back_mut() {
            Some(last) if last.is_followed_by(&run) && last.token == run.token => {
                last.numbers.1 = run.numbers.1
            }
            _ => self.runs.push_back(run),
        }
    }

    /// Confirms what is safe by now.
    pub(super) fn settle(&mut self, session: &mut Session) {
        let told = self.told.take();
        if told.is_empty() && self.batches.front().is_none_or(|first| first.left > 0) {
            return;
        }
        for (token, is_safe) in told {
            let at = self.batches.binary_search_by_key(&token, |batch| batch.token);
            let Some(batch) = at.ok().and_then(|at| self.batches.get_mut(at)) else { continue };
            batch.left = batch.left.saturating_sub(1);
            if !is_safe {
                let lost = self.runs.iter_mut().filter(|run| run.token == token);
                lost.for_each(|run| run.accepted = false);
            }
        }
        while self.batches.pop_front_if(|batch| batch.left == 0).is_some() {}
        let unsafe_from = self.batches.front().map_or(u64::MAX, |batch| batch.token);
        let mut joined: Option<Run> = None;
        while let Some(run) = self.runs.pop_front_if(|run| run.token < unsafe_from) {
            match &mut joined {
                Some(last) if last.is_followed_by(&run) => last.numbers.1 = run.numbers.1,
                _ => {
                    if let Some(done) = joined.replace(run) {
                        confirm(done, session);
                    }
                }
            }
        }
        if let Some(done) = joined {
            confirm(done, session);
        }
    }

    /// A channel is closed: nobody waits for its confirms.
    pub(super) fn forget(&mut self, channel: u16) {
        self.runs.retain(|run| run.channel != channel);
    }
}

impl Run {
    fn is_followed_by(&self, next: &Self) -> bool {
        self.channel == next.channel && self.accepted == next.accepted && self.numbers.1 + 1 == next.numbers.0
    }
}

/// All that came before on the channel is confirmed already, so an ack or a nack may speak for all of the run.
fn confirm(run: Run, session: &mut Session) {
    let Run { channel, numbers: (first, last), accepted, .. } = run;
    if accepted {
        session.ack(channel, last, last > first);
    } else {
        session.nack(channel, last, last > first);
    }
}
