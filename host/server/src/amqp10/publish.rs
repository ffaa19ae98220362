//! Transfers that come: from a read's worth of messages to enqueued ones and outcomes (sections 2.6.12 and 3.4).
//!
//! ```text
//! accepted  a queue took it and it is as safe as it is to be, or a type dropped it on purpose
//! released  there is no queue for it; or the disk did not take it. A link on which something was sent before to a queue
//!           that is gone ends instead
//! rejected  it is not accepted: with a condition
//! ```
//! Of a message that was settled when it came nobody is told that it was accepted; where it was not, its link is
//! detached with what would have been said.

use super::{
    Connection, Open,
    answers::{Answer, Denied},
    links::{Node, To},
};
use crate::{acting::Acting, store::Pressure, traffic::count_publish};
use leveret_amqp10::{
    Condition,
    connection::Delivery,
    form::{FORM, Kept, address::Address, large::FAR},
    message::Message,
    messaging::{DeliveryState, MESSAGE_FORMAT},
    performatives::ReceiverSettleMode,
};
use leveret_broker::{
    Publish, Published,
    port::{Router, Wake},
    traffic::ChannelTraffic,
};
use leveret_model::{
    MessageView, MoreKeys, Name, PublisherIdentity, Refusal, far::STUB_BYTES, refusal::Resource,
};
use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

/// How many messages the broker gets at once.
pub(super) const BATCH_MAX: usize = 1024;
/// The credit of a client that sends; renewed at the half.
pub(super) const CREDIT: u32 = 1000;
/// With more dead letters of its own a connection publishes more slowly.
const LETTERS_WAITING_MAX: usize = 4096;

/// What is kept between batches.
#[derive(Default)]
pub(super) struct Publishing {
    outcomes: Vec<Published>,
    /// What waits for the answer of a type.
    waiting: Vec<Incoming<'static>>,
    /// What came with that, behind a request to the coordinator or the management node.
    behind: Vec<Came<'static>>,
    /// Consumers of what was published last are behind.
    pub(super) slowed: bool,
    /// The connection ever published something that is to be written.
    pub(super) writes: bool,
}

impl Publishing {
    /// Whether a type's answer is waited for.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.behind.is_empty()
    }

    /// Whether something waits that came behind a request, to be dealt with after that.
    pub(super) fn has_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// A session is over; what it sent is published all the same, and nobody is told.
    pub(super) fn forget(&mut self, channel: u16) {
        let of_session = self.waiting.iter_mut().filter(|incoming| incoming.answer.channel == channel);
        of_session.for_each(|incoming| incoming.answer.is_gone = true);
    }

    /// The connection is over.
    pub(super) fn end(&mut self) {
        let count = self.waiting.len() + self.behind.len();
        if count > 0 {
            tracing::warn!("{count} messages are lost that waited for a type's answer");
            self.waiting.clear();
            self.behind.clear();
        }
    }
}

/// A delivery that came, to whatever link.
pub(super) struct Came<'b> {
    delivery: Delivery<'b>,
    /// The transaction that it is part of; its state says nothing else.
    txn_id: Option<Vec<u8>>,
}

/// The transaction that a delivery is part of.
pub(super) fn txn_id_of(delivery: &Delivery<'_>) -> Option<Vec<u8>> {
    match delivery.state.as_deref() {
        Some(DeliveryState::Transactional(state)) => Some(state.txn_id.to_vec()),
        _ => None,
    }
}

impl<'b> From<Delivery<'b>> for Came<'b> {
    fn from(delivery: Delivery<'b>) -> Self {
        let txn_id = txn_id_of(&delivery);
        Self { delivery: Delivery { state: None, ..delivery }, txn_id }
    }
}

impl Came<'_> {
    fn into_owned(self) -> Came<'static> {
        let Delivery { tag, message, state: _, .. } = self.delivery;
        let delivery = Delivery {
            channel: self.delivery.channel,
            handle: self.delivery.handle,
            delivery_id: self.delivery.delivery_id,
            tag: Cow::Owned(tag.into_owned()),
            message_format: self.delivery.message_format,
            settled: self.delivery.settled,
            rcv_settle_mode: self.delivery.rcv_settle_mode,
            state: None,
            batchable: self.delivery.batchable,
            resumed: false,
            message: Cow::Owned(message.into_owned()),
        };
        Came { delivery, txn_id: self.txn_id }
    }
}

/// Who takes requests.
enum Asked {
    Management,
    Coordinator,
}

/// A message that came, and where it goes.
pub(super) struct Incoming<'b> {
    answer: Answer,
    to: Arc<Node>,
    body: Body<'b>,
    pub(super) more_keys: Option<Box<MoreKeys>>,
}

/// What came.
pub(super) enum Body<'b> {
    /// The message, and where its parts lie.
    Near(Kept, Cow<'b, [u8]>),
    /// All but the body, which is in a file.
    Far {
        /// As [`leveret_amqp10::form`] lays it out.
        properties: Vec<u8>,
        /// What stands for the body.
        stub: [u8; STUB_BYTES],
        /// The file is there as long as this is.
        file: Arc<leveret_store::Body>,
    },
}

impl<'b> Incoming<'b> {
    pub(super) fn new(answer: Answer, to: Arc<Node>, body: Body<'b>) -> Self {
        Self { answer, to, body, more_keys: None }
    }
}

impl Incoming<'_> {
    fn view<'a>(&'a self, identity: &'a PublisherIdentity) -> MessageView<'a> {
        let (form, properties, body) = match &self.body {
            Body::Near(kept, message) => (FORM, kept.properties(message), kept.body(message)),
            Body::Far { properties, stub, .. } => (FAR, properties.as_slice(), stub.as_slice()),
        };
        let (exchange, routing_key) = (self.to.exchange.as_bytes(), self.to.routing_key.as_bytes());
        MessageView { exchange, routing_key, form, properties, body, publisher: Some(identity) }
    }

    /// Whether there is nothing in it but a body that is looked at.
    fn is_plain(&self) -> bool {
        matches!(&self.body, Body::Near(kept, _) if kept.is_plain())
    }

    /// Its session, its number there, whether it was settled when it came, and whether its sender settles second.
    pub(super) fn told(&self) -> (u16, u32, bool, bool) {
        (self.answer.channel, self.answer.id, self.answer.settled, self.answer.second)
    }

    /// How many bytes it keeps.
    pub(super) fn len_bytes(&self) -> usize {
        let bytes = match &self.body {
            Body::Near(_, message) => message.len(),
            Body::Far { properties, stub, .. } => properties.len() + stub.len(),
        };
        bytes + self.to.exchange.len() + self.to.routing_key.len()
    }

    fn into_owned(self) -> Incoming<'static> {
        let Self { answer, to, body, more_keys } = self;
        let body = match body {
            Body::Near(kept, message) => Body::Near(kept, Cow::Owned(message.into_owned())),
            Body::Far { properties, stub, file } => Body::Far { properties, stub, file },
        };
        Incoming { answer, to, body, more_keys }
    }
}

impl Open {
    /// Counts what was dealt with, and that it went to so many queues.
    pub(super) fn count(&self, batch: &[Incoming<'_>], outcomes: &[Published], mut routed: u64) {
        let mut counted: Option<(u16, Arc<ChannelTraffic>)> = None;
        for (incoming, outcome) in batch.iter().zip(outcomes) {
            let number = incoming.answer.channel;
            if counted.as_ref().is_none_or(|(channel, _)| *channel != number) {
                counted = self.client.traffic(number).map(|traffic| (number, traffic));
            }
            if let Some((_, traffic)) = &counted {
                traffic.routed.add(std::mem::take(&mut routed));
                count_publish(traffic, true, outcome, !incoming.answer.settled);
            }
        }
    }
}

impl Connection {
    /// Hands messages to the broker and answers for them. Requests to the coordinator and the management node among them
    /// are dealt with in their turn: while a type's answer is waited for, they and what follows them wait.
    pub(super) fn publish(&mut self, batch: Vec<Came<'_>>, router: &mut dyn Router) {
        self.publishing.slowed = false;
        let mut links = BTreeSet::new();
        let mut incoming = Vec::with_capacity(batch.len());
        let mut last = None;
        for came in batch {
            if self.is_waiting() {
                self.publishing.behind.push(came.into_owned());
                continue;
            }
            let Came { delivery, txn_id } = came;
            let at = (delivery.channel, delivery.handle);
            if last != Some(at) {
                let asks = self.what_is_asked_on(at);
                if let Some(asks) = asks {
                    // What came before it is dealt with first.
                    self.publish_all(std::mem::take(&mut incoming), router);
                    match asks {
                        _ if self.is_waiting() => {
                            self.publishing.behind.push(Came { delivery, txn_id }.into_owned());
                        }
                        Asked::Management => self.on_management_request(&delivery),
                        Asked::Coordinator => self.on_coordination(&delivery, router),
                    }
                    continue;
                }
                links.insert(at);
                last = Some(at);
            }
            if txn_id.is_none() && !delivery.settled {
                self.outcomes.tracked.begin(at, delivery.delivery_id, &delivery.tag);
            }
            let Some(open) = &mut self.open else { return };
            match open.receive(delivery) {
                Ok(Some(message)) => match txn_id {
                    None => incoming.push(message),
                    Some(txn_id) => self.publish_in_transaction(&txn_id, message, router),
                },
                Ok(None) => {}
                Err((answer, denied)) => {
                    // What came before it is dealt with first.
                    self.publish_all(std::mem::take(&mut incoming), router);
                    self.deny(answer, denied, router);
                }
            }
        }
        self.publish_all(incoming, router);
        self.outcomes.settle(&mut self.protocol);
        for (channel, handle) in links {
            self.renew_credit(channel, handle);
        }
        self.withhold_credit();
        self.tell_blocked();
    }

    /// Whom a link leads to that takes requests, if it does.
    fn what_is_asked_on(&mut self, (channel, handle): (u16, u32)) -> Option<Asked> {
        let session = self.session(channel)?;
        if session.pairs.takes(handle) {
            return Some(Asked::Management);
        }
        session.coordinators.contains_key(&handle).then_some(Asked::Coordinator)
    }

    /// A message that is part of a transaction; it is rejected where that cannot be.
    pub(super) fn publish_in_transaction(
        &mut self,
        txn_id: &[u8],
        message: Incoming<'_>,
        router: &mut dyn Router,
    ) {
        let answer = message.answer;
        if let Err(error) = self.send_in_transaction(txn_id, message.into_owned()) {
            self.deny(answer, Denied::new(error.condition(), error.to_string()), router);
        }
    }

    /// Tries again what waits for a type's answer.
    pub(super) fn retry_publishes(&mut self, router: &mut dyn Router) {
        if !self.publishing.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.publishing.waiting);
            self.publish_all(waiting, router);
            self.outcomes.settle(&mut self.protocol);
        }
    }

    /// Goes on with what came behind something that waited.
    pub(super) fn publish_behind(&mut self, router: &mut dyn Router) {
        let behind = std::mem::take(&mut self.publishing.behind);
        if !behind.is_empty() {
            // Where that still waits it is put back.
            self.publish(behind, router);
        }
    }

    pub(super) fn publish_all(&mut self, mut batch: Vec<Incoming<'_>>, router: &mut dyn Router) {
        if batch.is_empty() {
            return;
        }
        if !self.publishing.waiting.is_empty() {
            // Behind what waits already.
            return self.publishing.waiting.extend(batch.into_iter().map(Incoming::into_owned));
        }
        let Some(open) = &mut self.open else { return };
        let waker: Arc<dyn Wake> = self.wake.clone();
        let views = views_of(&batch, &open.identity);
        let mut outcomes = std::mem::take(&mut self.publishing.outcomes);
        outcomes.clear();
        let (waiter, token) = self.outcomes.next();
        open.publisher.confirm_to(&waiter, token);
        let done = open.publisher.publish(&open.vhost, router, &views, &mut outcomes, &waker);
        let lengths = views.iter().take(outcomes.len()).map(|view| view.message.body_bytes() as usize);
        open.place.about().traffic.count_bodies(lengths);
        drop(views);
        let routed = open.publisher.take_routed();
        open.count(&batch, &outcomes, routed);
        open.client.bury(&mut open.publisher, router);
        self.publishing.slowed |=
            open.publisher.is_behind() || open.client.dead_letters_waiting() > LETTERS_WAITING_MAX;
        self.publishing.writes |= open.publisher.take_writes();
        self.outcomes.expect(open.publisher.groups());
        let rest = batch.split_off(done.min(batch.len()));
        for (incoming, outcome) in batch.into_iter().zip(outcomes.drain(..)) {
            self.answer(incoming.answer, token, outcome, router);
        }
        self.publishing.outcomes = outcomes;
        self.publishing.waiting.extend(rest.into_iter().map(Incoming::into_owned));
    }

    /// Whether memory or the disk is short, so that who publishes is to wait; then a wake comes when it is over.
    pub(super) fn is_short(&mut self) -> bool {
        let shared = &self.shared;
        self.is_short_of_memory()
            || self.publishing.writes
                && shared.store.pressure().is_some()
                && self.store_wake.wait(|waker| shared.store.wake_when_relieved(waker))
    }

    fn is_short_of_memory(&self) -> bool {
        let memory = &self.shared.memory;
        memory.over_watermark() && self.memory_wake.wait(|waker| memory.wake_when_below(waker))
    }

    /// The same of what lasts longer than the moment in which the disk is behind.
    fn is_in_alarm(&mut self) -> bool {
        let is_behind = || self.shared.store.pressure().is_some_and(|it| matches!(it, Pressure::Behind));
        self.is_short_of_memory() || self.publishing.writes && !is_behind() && self.is_short()
    }

    /// Takes back the credit of all who send, where memory or the disk is short for longer.
    pub(super) fn withhold_credit(&mut self) {
        if !self.is_in_alarm() {
            return;
        }
        for (channel, handle) in self.incoming_links() {
            self.protocol.withhold(channel, handle);
            self.is_credit_due = true;
        }
    }

    /// What listings say of it.
    pub(super) fn tell_blocked(&self) {
        if let Some(open) = &self.open {
            let is_blocked = &open.place.about().is_blocked;
            is_blocked.store(self.is_credit_due, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// Messages in the broker's words.
pub(super) fn views_of<'a>(batch: &'a [Incoming<'_>], identity: &'a PublisherIdentity) -> Vec<Publish<'a>> {
    let for_broker = |(place, incoming): (usize, &'a Incoming<'_>)| Publish {
        // Each by itself: a refusal of one says nothing of the next.
        channel: place as u16,
        message: incoming.view(identity),
        mandatory: true,
        more_keys: incoming.more_keys.as_deref(),
    };
    batch.iter().enumerate().map(for_broker).collect()
}

impl Open {
    /// What came on a link, and where it goes; `None` if the link is gone.
    #[allow(clippy::result_large_err, reason = "it is rare, and dealt with at once")]
    fn receive<'b>(&mut self, delivery: Delivery<'b>) -> Result<Option<Incoming<'b>>, (Answer, Denied)> {
        let Some((answer, to)) = self.answer_for(&delivery) else { return Ok(None) };
        let named = |denied, tag: &[u8]| (answer, Denied { tag: Some(tag.into()), ..denied });
        if delivery.message_format != MESSAGE_FORMAT {
            let text = format!("message-format {} is not known", delivery.message_format);
            return Err(named(Denied::new(Condition::NotImplemented, text), &delivery.tag));
        }
        let kept = Kept::of(&delivery.message)
            .map_err(|error| named(Denied::new(Condition::DecodeError, error.to_string()), &delivery.tag))?;
        let to = match to {
            To::Node(node) => node,
            To::Anywhere => {
                self.addressed(&delivery.message).map_err(|denied| named(denied, &delivery.tag))?
            }
        };
        let mut incoming = Incoming::new(answer, to, Body::Near(kept, delivery.message));
        match self.look_at(&incoming) {
            Ok(more_keys) => incoming.more_keys = more_keys,
            Err(denied) => return Err(named(denied, &delivery.tag)),
        }
        Ok(Some(incoming))
    }

    /// Whom to tell what becomes of a delivery, and where its link leads; `None` if the link is gone.
    pub(super) fn answer_for(&self, delivery: &Delivery<'_>) -> Option<(Answer, To)> {
        let Delivery { channel, handle, delivery_id: id, settled, .. } = *delivery;
        let link = self.sessions.get(&channel)?.incoming.get(&handle)?;
        let second = match delivery.rcv_settle_mode {
            Some(mode) => mode == ReceiverSettleMode::Second,
            None => link.second,
        };
        let (is_fixed, offered) = (matches!(link.to, To::Node(_)), link.offered);
        let answer = Answer { channel, handle, id, settled, second, offered, is_fixed, is_gone: false };
        Some((answer, link.to.clone()))
    }

    /// What is looked at in each message: whether it may still go to that exchange, whose it says it is, its further routing
    /// keys, topics.
    pub(super) fn look_at(&mut self, incoming: &Incoming<'_>) -> Result<Option<Box<MoreKeys>>, Denied> {
        Acting { vhost: &self.vhost, rights: Some(&mut self.rights) }.demand_write(&incoming.to.exchange)?;
        if incoming.is_plain() && !self.rights.has_topics() {
            return Ok(None);
        }
        let view = incoming.view(&self.identity);
        let more_keys = view.more_keys().map_err(|text| Denied::new(Condition::InvalidField, text))?;
        let mut acting = Acting { vhost: &self.vhost, rights: Some(&mut self.rights) };
        acting.demand_message(&view, more_keys.as_deref())?;
        Ok(more_keys)
    }

    /// Where a message goes that says so itself.
    pub(super) fn addressed(&mut self, message: &[u8]) -> Result<Arc<Node>, Denied> {
        let unfit = |text: String| Denied::new(Condition::PreconditionFailed, text);
        let message = Message::new(message).map_err(|error| unfit(error.to_string()))?;
        let to = message
            .properties()
            .to
            .ok_or_else(|| unfit("anonymous terminus requires 'to' address".into()))?;
        let name =
            |bytes: &[u8]| Name::new(bytes).map_err(|_| unfit("a name has more than 255 bytes".into()));
        let (exchange, key) = match Address::read(to) {
            Some(Address::Exchange { exchange, routing_key }) => (name(&exchange)?, name(&routing_key)?),
            Some(Address::Queue(queue)) => (Name::EMPTY, name(&queue)?),
            None => return Err(unfit(format!("'{to}' is no address"))),
        };
        let mut acting = Acting { vhost: &self.vhost, rights: Some(&mut self.rights) };
        acting.demand_write(&exchange)?;
        match self.vhost.exchange(&exchange) {
            None => {
                let vhost = self.vhost.name().clone();
                Err(Refusal::NotFound { resource: Resource::Exchange, name: exchange, vhost }.into())
            }
            Some(known) if known.spec.internal => {
                let vhost = self.vhost.name().clone();
                Err(Refusal::Internal { exchange, vhost }.into())
            }
            Some(_) => Ok(Node { exchange, routing_key: key }.into()),
        }
    }
}
