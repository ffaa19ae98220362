//! What a client is told of a message that it sent (section 3.4): its outcome, or the end of its link.

use super::{
    Connection,
    links::To,
    offered::Offered,
    outcomes::{Outcome, Run, Why},
};
use leveret_amqp10::{
    Condition,
    composite::Fields,
    performatives::Error,
    refusal::{Extent, condition, extent},
    types::{MapBuilder, Symbol},
};
use leveret_broker::{NoRoom, Published, port::Router};
use leveret_model::Refusal;

/// Which message a link is detached for.
const DELIVERY_TAG: Symbol<'static> = Symbol::from_static("delivery-tag");

/// Whom to tell what became of a message.
#[derive(Clone, Copy)]
pub(super) struct Answer {
    pub(super) channel: u16,
    pub(super) handle: u32,
    pub(super) id: u32,
    /// Of a message that was settled when it came.
    pub(super) settled: bool,
    pub(super) second: bool,
    pub(super) offered: Offered,
    /// The link leads to one node.
    pub(super) is_fixed: bool,
    /// Its session is over.
    pub(super) is_gone: bool,
}

/// A message that goes nowhere, and why.
pub(super) struct Denied {
    pub(super) why: Why,
    /// Its link goes too.
    pub(super) detaches: bool,
    /// How far it goes, of what the broker says.
    pub(super) extent: Extent,
    /// What its sender calls it, where that is known here.
    pub(super) tag: Option<Box<[u8]>>,
}

impl Denied {
    pub(super) fn new(condition: Condition, description: impl Into<String>) -> Self {
        let why = Why { condition, description: description.into(), reason: None, queue: None };
        Self { why, detaches: false, extent: Extent::Link, tag: None }
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self { extent: extent(&refusal), ..Self::new(condition(&refusal), refusal.to_string()) }
    }
}

impl Connection {
    /// What became of a message.
    pub(super) fn answer(
        &mut self,
        answer: Answer,
        token: u64,
        published: Published,
        router: &mut dyn Router,
    ) {
        let why = |condition, description: String, reason| {
            Outcome::Rejected(Box::new(Why { condition, description, reason, queue: None }))
        };
        let outcome = match published {
            Published::Routed | Published::Dropped => Outcome::Accepted,
            Published::Unroutable if self.is_deleted(&answer) => return self.end_deleted(&answer, router),
            Published::Unroutable => Outcome::Released,
            Published::Full(NoRoom { why, queue }) => Outcome::Rejected(Box::new(Why {
                condition: Condition::ResourceLimitExceeded,
                description: why.to_string(),
                reason: Some("maxlen"),
                queue,
            })),
            Published::Rejected(text) => why(Condition::PreconditionFailed, text.to_string(), None),
            Published::Unavailable(text) => {
                why(Condition::PreconditionFailed, text.to_string(), Some("unavailable"))
            }
            Published::Refused(refusal) => {
                let is_gone = matches!(refusal, Refusal::NotFound { .. });
                let denied = Denied::from(refusal);
                return self.deny_at(answer, token, Denied { detaches: is_gone, ..denied }, router);
            }
        };
        if answer.is_gone {
            return;
        }
        match (answer.settled, outcome) {
            (false, outcome) => match answer.offered.fit(outcome) {
                Ok(outcome) => self.put_outcome(&answer, token, outcome),
                Err(why) => self.detach(&answer, &why, None, router),
            },
            (true, Outcome::Rejected(why)) => self.detach(&answer, &why, None, router),
            (true, _) => {}
        }
    }

    fn put_outcome(&mut self, answer: &Answer, token: u64, outcome: Outcome) {
        let (channel, ids, second) = (answer.channel, (answer.id, answer.id), answer.second);
        self.outcomes.put(Run { channel, token, ids, outcome, second });
    }

    /// Whether a message came on a link to a queue that is gone, and not as the first one: of that it is told that it is
    /// released, as in RabbitMQ.
    fn is_deleted(&self, answer: &Answer) -> bool {
        if !answer.is_fixed || answer.is_gone || self.protocol.deliveries(answer.channel, answer.handle) < 2 {
            return false;
        }
        let Some(open) = &self.open else { return false };
        let link =
            open.sessions.get(&answer.channel).and_then(|session| session.incoming.get(&answer.handle));
        match link.map(|link| &link.to) {
            Some(To::Node(node)) => node.exchange.is_empty() && open.vhost.queue(&node.routing_key).is_none(),
            _ => false,
        }
    }

    /// Its end is all that is told of the message.
    fn end_deleted(&mut self, answer: &Answer, router: &mut dyn Router) {
        let description = "the queue is deleted".to_owned();
        let why = Why { condition: Condition::ResourceDeleted, description, reason: None, queue: None };
        self.detach(answer, &why, None, router);
    }

    pub(super) fn deny(&mut self, answer: Answer, denied: Denied, router: &mut dyn Router) {
        let (_, token) = self.outcomes.next();
        self.deny_at(answer, token, denied, router);
    }

    /// Tells that a message goes nowhere. Where a link leads to one node that is gone, the message is released and the
    /// link detached; it is too where its client knows no outcome that says so.
    fn deny_at(&mut self, answer: Answer, token: u64, denied: Denied, router: &mut dyn Router) {
        if answer.is_gone {
            return;
        }
        let Denied { why, detaches, extent, tag } = denied;
        if extent == Extent::Session {
            return self.protocol.end_session(answer.channel, why.condition, &why.description);
        }
        let is_over = answer.settled || detaches && answer.is_fixed;
        let outcome = if is_over { Outcome::Released } else { Outcome::Rejected(Box::new(why.clone())) };
        let told = if answer.settled { None } else { answer.offered.fit(outcome).ok() };
        let (is_told, is_over) = (told.is_some(), is_over || told.is_none());
        if let Some(outcome) = told {
            self.put_outcome(&answer, token, outcome);
            self.outcomes.settle(&mut self.protocol);
        }
        if is_over {
            self.detach(&answer, &why, tag.as_deref().filter(|_| !is_told), router);
        }
    }

    /// Detaches a link because of a message; one of which nothing else is told is named, if its tag is known.
    fn detach(&mut self, answer: &Answer, why: &Why, tag: Option<&[u8]>, router: &mut dyn Router) {
        let mut info = MapBuilder::new();
        if let Some(tag) = tag {
            info.push(DELIVERY_TAG, tag);
        }
        let info = if info.view().is_empty() { None } else { Fields::new(info.view()) };
        let error = Error { info, ..Error::new(why.condition, &why.description) };
        self.protocol.detach(answer.channel, answer.handle, true, Some(&error));
        self.on_detached(answer.channel, answer.handle, router);
    }
}
