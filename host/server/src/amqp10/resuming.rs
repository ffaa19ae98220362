//! Links that are attached again with what was not settled of them (sections 2.6.3, 2.6.4 and 2.6.13).
//!
//! ```text
//! attach    says that it may come again: an expiry policy of its terminus (3.5.6) beyond the session, a time-out, a
//!           durable terminus, or a map of unsettled deliveries
//! detach    not closed, and the end of its session and connection: what is not settled is kept as its terms say
//! attach    with a map: the two maps are compared, and what both have goes on; without one all goes back
//! ```
//! *The client receives.* Messages that it has not settled stay taken from their queue. Of one that is in both maps with an
//! outcome, that counts, and a transfer without a message says that it is settled; of one without, the message is sent
//! again, as a delivery that is resumed. One that the client does not know, or has settled, is put back into the queue.
//! Tags of deliveries are numbers; those of an attachment that resumes begin with one of its own, so none is used twice.
//!
//! *The client sends.* The outcome of a delivery is kept until its sender has settled that (`received.rs`): it is in the map
//! of the answer, and told when the sender resumes the delivery, whose message is not looked at.
//!
//! Where a map does not fit a frame, nothing but what is resumed is sent on that attachment.

use super::{
    Connection, Session,
    deliver::{SendAgain, send_again},
    departing::Departure,
    links::Outgoing,
    outcomes::Outcome,
    received::{Received, Resumed},
    settle::{Added, settlement},
    suspended::{Claim, LinkKey, Unsettled, Wanted},
    terms::{Over, Terms, asked},
};
use crate::connection::ConnectionWake;
use leveret_amqp10::{
    Condition, Performative, Value,
    composite::Composite as _,
    connection::{self as protocol, Delivery},
    messaging::{Accepted, DeliveryState, MESSAGE_FORMAT, Modified, Rejected, Released},
    performatives::{self, Attach, DeliveryTag, Error, Role},
    types::{MapBuilder, Reader},
};
use leveret_broker::{Held, port::Router, store::Store as _};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// A client whose container has a longer name has no links that can be resumed: that is kept with each.
const CONTAINER_BYTES_MAX: usize = 1024;

/// Links that can be resumed, of a connection.
pub(super) struct Resuming {
    wanted: Arc<Wanted>,
    /// Attaches that wait until another connection has given up their link.
    waiting: Vec<Waiting>,
    /// Links on which deliveries that are resumed are to be sent, and have credit.
    sending: BTreeSet<(u16, u32)>,
    /// There ever was one.
    any: bool,
    /// Credit was not renewed, because too much is not settled.
    pub(super) is_credit_due: bool,
}

struct Waiting {
    at: (u16, u32),
    /// As it came.
    attach: Vec<u8>,
}

impl Resuming {
    pub(super) fn new(wake: Arc<ConnectionWake>) -> Self {
        let (waiting, sending) = Default::default();
        Self { wanted: Wanted::new(wake), waiting, sending, any: false, is_credit_due: false }
    }

    /// Whether there are still deliveries to be sent on a link before it is drained.
    pub(super) fn is_sending(&self, channel: u16, handle: u32) -> bool {
        self.sending.contains(&(channel, handle))
    }
}

/// A link that can be resumed, and is attached.
pub(super) struct Kept {
    key: LinkKey,
    /// Of the attachment.
    number: u64,
    terms: Terms,
}

/// The same, with what was kept of it.
pub(super) struct Claimed {
    kept: Kept,
    unsettled: Option<Unsettled>,
}

impl Claimed {
    pub(super) fn terms(&self) -> Terms {
        self.kept.terms
    }
}

/// Of a link on which the client receives: what is sent again.
#[derive(Default)]
pub(super) struct Sending {
    /// What tags of its deliveries begin with, unless it is 0.
    epoch: u32,
    /// Deliveries that were resumed, by the broker's numbers: the numbers that their tags are.
    older: BTreeMap<u64, u64>,
    held: Option<Held>,
    queue: VecDeque<Again>,
    /// Nothing is sent but that.
    is_alone: bool,
}

impl Sending {
    /// What tags of its deliveries begin with, unless it is 0.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }
}

enum Again {
    /// The message.
    Message(u64),
    /// That it is settled, with this state.
    Settled(u64, DeliveryState<'static>),
}

/// The tag of a delivery.
pub(super) struct Tag([u8; 8], u32);

impl Tag {
    /// Of a number that the broker has for it, on an attachment.
    pub(super) fn new(epoch: u32, tag: u64) -> Self {
        Self::of(number(epoch, tag))
    }

    fn of(number: u64) -> Self {
        Self(number.to_be_bytes(), (number >> 32) as u32)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        if self.1 == 0 { self.0.last_chunk::<4>().map_or(&[], |tag| tag) } else { &self.0 }
    }
}

fn number(epoch: u32, tag: u64) -> u64 {
    u64::from(epoch) << 32 | u64::from(tag as u32)
}

/// The number that a tag is; `None` if it is none of ours.
fn number_of(tag: &[u8]) -> Option<u64> {
    match tag.len() {
        4 => Some(u64::from(u32::from_be_bytes(tag.try_into().ok()?))),
        8 => Some(u64::from_be_bytes(tag.try_into().ok()?)).filter(|number| number >> 32 != 0),
        _ => None,
    }
}

/// What an answering attach says of deliveries that are not settled here.
#[derive(Default)]
pub(super) struct Told {
    map: Option<MapBuilder>,
    bytes_left: usize,
    pub(super) is_incomplete: bool,
}

impl Told {
    fn within(bytes: usize) -> Self {
        Self { map: Some(MapBuilder::new()), bytes_left: bytes, is_incomplete: false }
    }

    fn push(&mut self, tag: &[u8], state: Option<&[u8]>) {
        let Some(map) = &mut self.map else { return };
        let bytes = 2 + tag.len() + state.map_or(1, <[u8]>::len);
        let Some(left) = self.bytes_left.checked_sub(bytes).filter(|_| !self.is_incomplete) else {
            self.is_incomplete = true;
            return;
        };
        self.bytes_left = left;
        map.push(tag, state.map_or(Value::Null, value));
    }

    pub(super) fn unsettled(&self) -> Option<performatives::Unsettled<'_>> {
        self.map.as_ref().and_then(|map| performatives::Unsettled::new(map.view()).ok())
    }
}

fn value(encoded: &[u8]) -> Value<'_> {
    Reader::new(encoded).value().unwrap_or(Value::Null)
}

/// It is told when the link is free.
pub(super) struct Busy;

impl Connection {
    /// Takes a link for an attach, if it asks for one that can be resumed. Where another connection has it, the attach is
    /// answered later.
    pub(super) fn claim(&mut self, channel: u16, attach: &Attach<'_>) -> Result<Option<Claimed>, Busy> {
        let (terms, suspended) = (asked(attach), &self.shared.suspended);
        let Some(open) = &self.open else { return Ok(None) };
        if (terms.is_none() && suspended.is_empty()) || open.container.len() > CONTAINER_BYTES_MAX {
            return Ok(None);
        }
        let key = LinkKey {
            vhost: open.vhost.name().clone(),
            user: open.rights.user_name().clone(),
            container: open.container.clone(),
            name: attach.name.into(),
            receives: attach.role == Role::Receiver,
        };
        let Some(terms) = terms else {
            suspended.forget(&key);
            return Ok(None);
        };
        let at = (channel, attach.handle);
        match suspended.claim(&key, &self.resuming.wanted, at) {
            Claim::Given(number, unsettled) => {
                self.resuming.any = true;
                Ok(Some(Claimed { kept: Kept { key, number, terms }, unsettled }))
            }
            Claim::Refused => Ok(None),
            Claim::Busy => {
                let mut bytes = Vec::new();
                attach.encode(&mut bytes);
                self.resuming.waiting.push(Waiting { at, attach: bytes });
                Err(Busy)
            }
        }
    }

    /// A link is not attached after all. What was kept of it goes.
    pub(super) fn unclaim(&mut self, claimed: Claimed) {
        let Claimed { kept, unsettled } = claimed;
        drop(unsettled);
        self.shared.suspended.release(&kept.key, kept.number);
    }

    /// After a wake: gives up links that others want, and attaches those that others gave up; tells what others learnt.
    pub(super) fn go_on_resuming(&mut self, router: &mut dyn Router) {
        if !self.resuming.any && self.resuming.waiting.is_empty() {
            return;
        }
        for (channel, handle) in self.resuming.wanted.take() {
            let kept = self.session(channel).and_then(|session| session.kept.get(&handle));
            let Some((key, number)) = kept.map(|kept| (kept.key.clone(), kept.number)) else { continue };
            if self.shared.suspended.is_wanted(&key, number) {
                let error = Error::new(Condition::Stolen, "the link was attached on another connection");
                self.protocol.detach(channel, handle, true, Some(&error));
                self.end_link((channel, handle), Some(Over::Link), router);
            }
        }
        for waiting in std::mem::take(&mut self.resuming.waiting) {
            let (channel, _) = waiting.at;
            if let Ok((Performative::Attach(attach), _)) = Performative::from_body(&waiting.attach)
                && self.session(channel).is_some()
            {
                self.on_attach(channel, &attach, router);
            }
        }
        for run in self.outcomes.tracked.take_news() {
            run.tell(&mut self.protocol);
        }
    }

    /// An attach is not to be answered any more.
    pub(super) fn forget_waiting(&mut self, at: (u16, u32)) {
        self.resuming.waiting.retain(|waiting| waiting.at != at);
        self.resuming.sending.remove(&at);
    }

    /// A link on which the client sends is attached: what is known of its deliveries.
    pub(super) fn resume_received(
        &mut self,
        channel: u16,
        attach: &Attach<'_>,
        claimed: Option<Claimed>,
        second: bool,
    ) -> Told {
        let Some(Claimed { kept, unsettled }) = claimed else { return Told::default() };
        let (received, was_there) = match unsettled {
            Some(Unsettled::Received(received)) => (received, true),
            _ => (Arc::new(Received::default()), false),
        };
        let mut told = Told::default();
        match attach.unsettled {
            None => received.retain(|_| false),
            Some(map) => {
                if !attach.incomplete_unsettled {
                    let theirs: BTreeSet<&[u8]> = map.iter().map(|(tag, _)| tag.bytes()).collect();
                    received.retain(|tag| theirs.contains(tag));
                }
                if was_there {
                    told = Told::within(self.protocol.frame_bytes_max() as usize / 2);
                    let encoded = |outcome: &Outcome| outcome.encoded();
                    received.each(|tag, outcome| told.push(tag, outcome.map(encoded).as_deref()));
                }
            }
        }
        self.outcomes.tracked.attach((channel, attach.handle), received, second);
        if let Some(session) = self.session(channel) {
            session.kept.insert(attach.handle, kept);
        }
        told
    }

    /// A delivery comes that goes on from an earlier attachment.
    pub(super) fn on_resumed(&mut self, delivery: &Delivery<'_>) {
        let at = (delivery.channel, delivery.handle);
        let resumed = self.outcomes.tracked.resume(at, delivery.delivery_id, &delivery.tag, delivery.settled);
        match resumed {
            Resumed::Tell(run) => run.tell(&mut self.protocol),
            Resumed::Nothing => {}
            Resumed::Unknown => tracing::debug!("{}: a delivery is resumed that is not known", self.peer),
        }
        // It used credit.
        self.on_aborted(delivery.channel, delivery.handle);
    }

    /// A client that sends has settled deliveries.
    pub(super) fn on_sender_settled(&mut self, channel: u16, ids: (u32, u32)) {
        if !self.outcomes.tracked.has_any() || !self.outcomes.tracked.on_settled(channel, ids) {
            return;
        }
        let handles = |session: &mut Session| session.kept.keys().copied().collect::<Vec<_>>();
        for handle in self.session(channel).map(handles).unwrap_or_default() {
            if self.session(channel).is_some_and(|session| session.incoming.contains_key(&handle)) {
                self.renew_credit(channel, handle);
            }
        }
    }

    /// A link on which the client receives is attached: compares what it has not settled with what is kept.
    pub(super) fn resume_sent(
        &mut self,
        channel: u16,
        attach: &Attach<'_>,
        claimed: Option<Claimed>,
        router: &mut dyn Router,
    ) -> Told {
        let Some(Claimed { kept, unsettled }) = claimed else { return Told::default() };
        let mut sending = Sending { is_alone: attach.incomplete_unsettled, ..Sending::default() };
        let mut told = Told::default();
        if attach.unsettled.is_some() || unsettled.is_some() {
            sending.epoch =
                u32::try_from(self.shared.suspended.next() % u64::from(u32::MAX)).unwrap_or(0) + 1;
        }
        let Some(open) = &mut self.open else { return told };
        let Some(session) = open.sessions.get_mut(&channel) else { return told };
        session.kept.insert(attach.handle, kept);
        let Some(link) = session.outgoing.get_mut(&attach.handle) else { return told };
        if let (Some(map), Some(Unsettled::Sent(mut held))) = (attach.unsettled, unsettled)
            && held.is_of(&link.queue)
        {
            let offered = session.limited.get(&attach.handle);
            let counts = |state: &DeliveryState<'_>| {
                state.outcome().is_some() && offered.is_none_or(|offered| offered.allows(state))
            };
            let mut theirs = BTreeMap::new();
            for (tag, state) in map.iter() {
                if let Some(number) = number_of(tag.bytes()).filter(|number| held.has(*number)) {
                    theirs.insert(number, state.filter(counts));
                }
            }
            if !attach.incomplete_unsettled {
                held.retain(|number| theirs.contains_key(&number));
            }
            told = Told::within(self.protocol.frame_bytes_max() as usize / 2);
            held.numbers().for_each(|number| told.push(Tag::of(number).bytes(), None));
            for (number, state) in theirs {
                let again = match state {
                    None => Again::Message(number),
                    Some(state) => {
                        let tag = open.client.take_up(channel, &mut held, number, router.now_ms());
                        if let (Some(tag), Some(outcome)) = (tag, settlement(Some(&state), true)) {
                            if let Some(added) = Added::by(Some(&state)) {
                                open.client.annotate(channel, tag, added.remark());
                            }
                            // It was taken up just now.
                            let _ = open.client.settle(channel, tag, false, outcome);
                        }
                        Again::Settled(number, in_short(&state))
                    }
                };
                sending.queue.push_back(again);
            }
            sending.held = Some(held);
            sending.is_alone |= told.is_incomplete;
        }
        link.resuming = Some(Box::new(sending));
        self.end_settling(&mut true, router);
        told
    }

    /// Whether a link with credit has deliveries to send before its consumer is given any; they are sent in the next turn.
    pub(super) fn is_to_resume(&mut self, channel: u16, handle: u32) -> bool {
        let link = self.session(channel).and_then(|session| session.outgoing.get(&handle));
        let sending = link.and_then(|link| link.resuming.as_ref());
        let is_to = sending.is_some_and(|sending| !sending.queue.is_empty() || sending.is_alone);
        if is_to {
            self.resuming.sending.insert((channel, handle));
        }
        is_to
    }

    /// Sends deliveries that are resumed, until `output_bytes_max` wait for the socket; whether there are more, and room is
    /// all that they want.
    pub(super) fn send_resumed(&mut self, output_bytes_max: usize, router: &mut dyn Router) -> bool {
        if self.resuming.sending.is_empty() {
            return false;
        }
        for at in self.resuming.sending.clone() {
            loop {
                if self.protocol.output_bytes() >= output_bytes_max {
                    return true;
                }
                match self.send_next(at, router.now_ms()) {
                    Next::Sent => {}
                    Next::Waits => break,
                    Next::Over => {
                        self.resuming.sending.remove(&at);
                        break;
                    }
                }
            }
        }
        false
    }

    /// Sends the next one of a link.
    fn send_next(&mut self, (channel, handle): (u16, u32), now_ms: u64) -> Next {
        let Some(open) = &mut self.open else { return Next::Over };
        let Some(session) = open.sessions.get_mut(&channel) else { return Next::Over };
        let Session { outgoing, sent, .. } = session;
        let Some(Outgoing { tag: consumer, resuming: Some(sending), .. }) = outgoing.get_mut(&handle) else {
            return Next::Over;
        };
        let Some(next) = sending.queue.front() else {
            if !sending.is_alone {
                open.client.grant(channel, consumer, self.protocol.credit(channel, handle));
            }
            return Next::Over;
        };
        if self.protocol.credit(channel, handle) == 0 {
            return Next::Over;
        }
        if !self.protocol.has_window(channel) || self.departing.is_busy(channel, handle) {
            return Next::Waits;
        }
        let again = match next {
            Again::Settled(number, state) => {
                let tag = Tag::of(*number);
                // There is credit and a window for it.
                let _ = self.protocol.resume(channel, handle, &settled_again(&tag), Some(*state));
                None
            }
            Again::Message(number) => Some(*number),
        };
        sending.queue.pop_front();
        let (Some(number), Some(held)) = (again, sending.held.as_mut()) else { return Next::Sent };
        let to = SendAgain {
            protocol: &mut self.protocol,
            at: (channel, handle),
            name: &Tag::of(number),
            head: &mut self.scratch.head,
        };
        match held.look(number, |message, redelivered| send_again(to, &message, redelivered)) {
            Some(Ok((id, departure))) => {
                if let Some(tag) = open.client.take_up(channel, held, number, now_ms) {
                    sending.older.insert(tag, number);
                    sent.push(id, handle, tag);
                }
                if let Some(departure) = departure {
                    let far = self.shared.store.far(&departure.stub);
                    self.departing.push(Departure { far, ..departure });
                }
            }
            Some(Err(why)) => {
                // As a new one that cannot be sent: if it is too large, that is the end of the link.
                let tag = open.client.take_up(channel, held, number, now_ms);
                self.scratch.give_back(channel, handle, tag, why);
                return Next::Over;
            }
            // Its queue is deleted.
            None => {}
        }
        Next::Sent
    }

    /// What is not settled of a link on which the client receives, by the numbers of the tags.
    pub(super) fn hold(
        &mut self,
        channel: u16,
        tags: &[u64],
        resuming: Option<Box<Sending>>,
        router: &mut dyn Router,
    ) -> Option<Held> {
        let Sending { epoch, older, held, .. } = *resuming?;
        let numbered = |tag: &u64| (older.get(tag).copied().unwrap_or_else(|| number(epoch, *tag)), *tag);
        let deliveries: Vec<_> = tags.iter().map(numbered).collect();
        self.open.as_mut()?.client.hold(channel, &deliveries, held, router)
    }

    /// A link is gone. What is not settled of it is kept, as long as its terms say from what is `over`; without that
    /// nothing is.
    pub(super) fn end_kept(
        &mut self,
        (channel, kept): (u16, Kept),
        over: Option<Over>,
        unsettled: Option<Unsettled>,
        now_ms: u64,
    ) {
        let Kept { key, number, terms } = kept;
        let suspended = &self.shared.suspended;
        match over.zip(unsettled) {
            Some((over, unsettled)) => {
                let until = terms.until(over, (self.id.0, channel), now_ms);
                suspended.suspend(&key, number, (unsettled, until), &self.shared.memory, now_ms);
            }
            None => suspended.release(&key, number),
        }
    }

    /// A session or, without one, the connection is over: ends its links that can be resumed.
    pub(super) fn suspend_all(&mut self, channel: Option<u16>, router: &mut dyn Router) {
        let over = if channel.is_some() { Over::Session } else { Over::Connection };
        let over = Some(over).filter(|_| !self.is_stopping);
        self.resuming.waiting.retain(|waiting| channel.is_some_and(|channel| waiting.at.0 != channel));
        let Some(open) = self.open.as_ref().filter(|_| self.resuming.any) else { return };
        let sessions = open.sessions.iter().filter(|(of, _)| channel.is_none_or(|channel| channel == **of));
        let handles = |(channel, session): (&u16, &Session)| {
            session.kept.keys().map(|handle| (*channel, *handle)).collect::<Vec<_>>()
        };
        let all: Vec<_> = sessions.flat_map(handles).collect();
        for at in all {
            self.end_link(at, over, router);
        }
        self.shared.suspended.on_over(self.id.0, channel, router.now_ms());
    }
}

/// What came of looking at the next delivery that is resumed.
enum Next {
    Sent,
    Waits,
    /// There is none, or no credit.
    Over,
}

fn settled_again(tag: &Tag) -> protocol::Outgoing<'_> {
    protocol::Outgoing {
        tag: DeliveryTag::new(tag.bytes()).unwrap_or_default(),
        message_format: MESSAGE_FORMAT,
        settled: true,
        message: &[],
    }
}

impl Outcome {
    /// The state of a delivery, in short.
    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let state: DeliveryState<'_> = match self {
            Self::Accepted | Self::AcceptedOrRejected | Self::Committed => Accepted {}.into(),
            // Nobody resumes a delivery by the end of one from here.
            Self::Released | Self::Settled(_) => Released {}.into(),
            Self::Rejected(why) => {
                let error = Some(Error { description: None, ..Error::new(why.condition, "") });
                Rejected { error }.into()
            }
        };
        state.encode(&mut out);
        out
    }
}

/// An outcome without all that its receiver said about it and knows.
pub(super) fn in_short(state: &DeliveryState<'_>) -> DeliveryState<'static> {
    match *state {
        DeliveryState::Accepted(_) => Accepted {}.into(),
        DeliveryState::Rejected(_) => Rejected { error: None }.into(),
        DeliveryState::Modified(Modified { delivery_failed, undeliverable_here, .. }) => {
            Modified { delivery_failed, undeliverable_here, message_annotations: None }.into()
        }
        _ => Released {}.into(),
    }
}
