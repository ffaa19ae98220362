//! Links (section 2.6): where they lead, and what is taken back when they are detached.
//!
//! ```text
//! client sends     /exchanges/:x/:key  /exchanges/:x  /queues/:q  none: each message says where in `to`
//! client receives  /queues/:q
//! ```
//! What cannot be is refused with an attach that leads nowhere and a detach; where a permission is missing the session
//! ends, as in RabbitMQ.

use super::{
    Connection, Open, management,
    nodes::Use,
    offered::Offered,
    resuming::{Claimed, Kept, Sending},
    settle::{ByDefault, Sent},
    suspended::{DELIVERIES_MAX, Unsettled},
    terms::{Over, granted_target},
    transactions::Coordinators,
};
use crate::{acting::Acting, amqp10::publish::CREDIT};
use leveret_amqp10::{
    Condition,
    composite::Fields,
    connection::Attached,
    coordinator::TransactionId,
    form::address::Address,
    messaging::Target,
    performatives::{Attach, Error, Role},
    refusal::{Extent, condition, extent},
    transactions::AnyTarget,
    types::{MapBuilder, Symbol},
};
use leveret_broker::{
    Settle,
    port::{Router, Wake},
};
use leveret_model::{Name, Refusal, refusal::Resource};
use litemap::LiteMap;
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// Whether a link is active, or stands by.
const ACTIVE: Symbol<'static> = Symbol::from_static("rabbitmq:active");

/// The links of a session, by their handles, and what was sent on them.
#[derive(Default)]
pub(super) struct Session {
    /// On which the client sends.
    pub(super) incoming: LiteMap<u32, Incoming>,
    /// On which it receives.
    pub(super) outgoing: LiteMap<u32, Outgoing>,
    /// Of those, on which not every outcome may be.
    pub(super) limited: BTreeMap<u32, Offered>,
    pub(super) sent: Sent,
    /// Queues that were made for links.
    pub(super) made: BTreeMap<u32, Name>,
    /// Links that count for the life of other nodes.
    pub(super) uses: BTreeMap<u32, Use>,
    /// Links to the coordinator of transactions.
    pub(super) coordinators: Coordinators,
    /// Links of the management node.
    pub(super) pairs: management::Pairs,
    /// Those that can be resumed.
    pub(super) kept: BTreeMap<u32, Kept>,
}

/// A link on which the client sends.
pub(super) struct Incoming {
    pub(super) to: To,
    /// The sender settles after it has heard of the outcome.
    pub(super) second: bool,
    /// The outcomes that its client is told.
    pub(super) offered: Offered,
}

/// Where messages of a link go.
#[derive(Clone)]
pub(super) enum To {
    /// To one node.
    Node(Arc<Node>),
    /// Wherever they say.
    Anywhere,
}

/// An exchange with a routing key; the default exchange where it is a queue.
pub(super) struct Node {
    pub(super) exchange: Name,
    pub(super) routing_key: Name,
}

/// A link on which the client receives.
pub(super) struct Outgoing {
    /// Its consumer.
    pub(super) tag: Name,
    /// Where its messages come from.
    pub(super) queue: Name,
    /// Messages are settled when they are sent.
    pub(super) settled: bool,
    /// What is noted of them beside that.
    pub(super) beside: Beside,
    /// What becomes of one that is settled without an outcome, if its client said so.
    pub(super) by_default: Option<Box<ByDefault>>,
    /// Of one that can be resumed.
    pub(super) resuming: Option<Box<Sending>>,
    /// What was told of whether it is active, of a quorum queue (RabbitMQ's `rabbitmq:active`).
    pub(super) told_active: Option<bool>,
}

/// What is noted of a message that is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    Nothing,
    /// It is settled when it is sent, and its queue has it until then: it may be too large.
    Checked,
    /// It is acquired in a transaction.
    Acquired(TransactionId),
    /// It is a copy. The broker knows nothing of its delivery.
    Copied,
}

/// Why a link is not attached.
pub(super) struct Refused {
    pub(super) condition: Condition,
    pub(super) text: Cow<'static, str>,
    pub(super) extent: Extent,
}

impl Refused {
    pub(super) fn new(condition: Condition, text: impl Into<Cow<'static, str>>) -> Self {
        Self { condition, text: text.into(), extent: Extent::Link }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let (condition, extent) = (condition(&refusal), extent(&refusal));
        Self { condition, extent, text: refusal.to_string().into() }
    }
}

impl Open {
    /// How many messages wait for a link (section 2.6.7), about: as many as are ready in its queue.
    pub(super) fn available(&self, channel: u16, handle: u32) -> Option<u32> {
        let link = self.sessions.get(&channel)?.outgoing.get(&handle)?;
        let ready = self.vhost.queue(&link.queue)?.status().messages;
        Some(u32::try_from(ready).unwrap_or(u32::MAX))
    }
}

impl Connection {
    /// Attach (2.7.3).
    pub(super) fn on_attach(&mut self, channel: u16, attach: &Attach<'_>, router: &mut dyn Router) {
        let Ok(mut claimed) = self.claim(channel, attach) else { return };
        let attached = match attach.role {
            Role::Sender => self.attach_incoming(channel, attach, &mut claimed),
            Role::Receiver => self.attach_outgoing(channel, attach, &mut claimed, router),
        };
        let Err(refused) = attached else { return };
        if let Some(claimed) = claimed {
            self.unclaim(claimed);
        }
        self.unmake_node(channel, attach.handle, router);
        tracing::debug!("{}: link '{}' is refused: {}", self.peer, attach.name, refused.text);
        match refused.extent {
            Extent::Link => {
                let error = Error::new(refused.condition, &refused.text);
                self.protocol.attach_refused(channel, attach.handle, &error);
            }
            Extent::Session => self.protocol.end_session(channel, refused.condition, &refused.text),
        }
    }

    /// A link on which the client sends.
    fn attach_incoming(
        &mut self,
        channel: u16,
        attach: &Attach<'_>,
        claimed: &mut Option<Claimed>,
    ) -> Result<(), Refused> {
        let target = match attach.target {
            Some(AnyTarget::Node(target)) => target,
            Some(AnyTarget::Coordinator(_)) => return self.attach_coordinator(channel, attach),
            None => return Err(Refused::new(Condition::InvalidField, "the link has no target")),
        };
        if target.dynamic && target.address.is_some() {
            return Err(Refused::new(Condition::NotImplemented, "a dynamic target has no address (3.5.4)"));
        }
        let offered = Offered::of_sender(attach.source.as_ref())?;
        let made = match target.dynamic {
            true => Some(self.make_node((channel, attach.handle), target.dynamic_node_properties)?),
            false => None,
        };
        let target = made.as_ref().map_or(target, |made| {
            let (address, dynamic_node_properties) = made.told();
            Target { address: Some(address), dynamic_node_properties, ..target }
        });
        let to = match target.address {
            Some(management::ADDRESS) => return self.attach_to_management(channel, attach),
            None => To::Anywhere,
            Some(address) => self.node_of(address)?,
        };
        if let To::Node(node) = &to
            && node.exchange.is_empty()
        {
            self.use_node((channel, attach.handle), &node.routing_key);
        }
        let second = attach.rcv_settle_mode == leveret_amqp10::performatives::ReceiverSettleMode::Second;
        let target = granted_target(target, claimed.as_ref().map(Claimed::terms), self.is_durable(&to));
        let told = self.resume_received(channel, attach, claimed.take(), second);
        let answer = Attached {
            source: attach.source,
            target: Some(target.into()),
            large: true,
            unsettled: told.unsettled(),
            incomplete_unsettled: told.is_incomplete,
            ..Attached::as_asked(attach)
        };
        self.protocol.attached(channel, attach.handle, &answer);
        if let Some(session) = self.session(channel) {
            session.incoming.insert(attach.handle, Incoming { to, second, offered });
        }
        if !std::mem::replace(&mut self.is_told_of_shortage, true) {
            let listener: Arc<dyn Wake> = self.wake.clone();
            self.shared.memory.wake_when_short(Arc::downgrade(&listener));
        }
        self.renew_credit(channel, attach.handle);
        Ok(())
    }

    /// Whether what a link leads to outlives the process.
    pub(super) fn is_durable(&self, to: &To) -> bool {
        let (Some(open), To::Node(node)) = (&self.open, to) else { return false };
        let Node { exchange, routing_key } = &**node;
        if exchange.is_empty() {
            return open
                .vhost
                .queue(routing_key)
                .is_some_and(|queue| queue.spec().durable && !queue.spec().exclusive);
        }
        open.vhost.exchange(exchange).is_some_and(|exchange| exchange.spec.durable)
    }

    /// What an address of a target names, if the user may send there.
    fn node_of(&mut self, address: &str) -> Result<To, Refused> {
        let Some(open) = &mut self.open else { return Ok(To::Anywhere) };
        let mut acting = Acting { vhost: &open.vhost, rights: Some(&mut open.rights) };
        let name = |bytes: &[u8]| {
            Name::new(bytes)
                .map_err(|_| Refused::new(Condition::InvalidField, "a name has more than 255 bytes"))
        };
        match read_address(address)? {
            Address::Exchange { exchange, routing_key } => {
                let (exchange, routing_key) = (name(&exchange)?, name(&routing_key)?);
                acting.demand_write(&exchange)?;
                let not_found = || Refusal::NotFound {
                    resource: Resource::Exchange,
                    name: exchange.clone(),
                    vhost: open.vhost.name().clone(),
                };
                let known = open.vhost.exchange(&exchange).ok_or_else(not_found)?;
                if known.spec.internal {
                    let vhost = open.vhost.name().clone();
                    return Err(Refusal::Internal { exchange, vhost }.into());
                }
                Ok(To::Node(Node { exchange, routing_key }.into()))
            }
            Address::Queue(queue) => {
                let queue = name(&queue)?;
                acting.demand_write(b"")?;
                let not_found = || Refusal::NotFound {
                    resource: Resource::Queue,
                    name: queue.clone(),
                    vhost: open.vhost.name().clone(),
                };
                open.vhost.queue(&queue).ok_or_else(not_found)?;
                Ok(To::Node(Node { exchange: Name::EMPTY, routing_key: queue }.into()))
            }
        }
    }

    /// Ends the sessions with a link that the user may have no more, as RabbitMQ does where a client renews its token.
    pub(super) fn end_denied_sessions(&mut self) {
        let Some(Open { vhost, rights, sessions, .. }) = &mut self.open else { return };
        let mut acting = Acting { vhost, rights: Some(rights) };
        let mut denied = Vec::new();
        for (channel, session) in sessions.iter() {
            let mut nodes = session.incoming.values().filter_map(|link| match &link.to {
                To::Node(node) => Some(&node.exchange),
                To::Anywhere => None,
            });
            let may_send = nodes.try_for_each(|exchange| acting.demand_write(exchange));
            let may_all = may_send.and_then(|()| {
                let mut attached = session.outgoing.iter();
                // What was made for a link its user may read.
                attached.try_for_each(|(handle, link)| match session.made.contains_key(handle) {
                    true => Ok(()),
                    false => acting.demand_read(&link.queue),
                })
            });
            denied.extend(may_all.err().map(|refusal| (*channel, refusal)));
        }
        for (channel, refusal) in denied {
            self.protocol.end_session(channel, condition(&refusal), &refusal.to_string());
        }
    }

    /// What a client says of the credit of a link on which it receives; with `echo` it wants to be told of the link.
    pub(super) fn on_credit(&mut self, (channel, handle): (u16, u32), credit: u32, drain: bool, echo: bool) {
        if echo {
            let available = self.open.as_ref().and_then(|open| open.available(channel, handle));
            self.protocol.tell(channel, handle, available);
        }
        let Some(open) = &mut self.open else { return };
        let Some(session) = open.sessions.get_mut(&channel) else { return };
        let Some(link) = session.outgoing.get(&handle) else { return self.send_responses() };
        let is_first = link.told_active.is_none() && credit > 0;
        let (tag, resumes) = (link.tag.clone(), link.resuming.is_some());
        let credit = if resumes && self.is_to_resume(channel, handle) { 0 } else { credit };
        if let Some(open) = &mut self.open {
            open.client.grant(channel, &tag, credit);
        }
        self.draining.retain(|of| *of != (channel, handle));
        if drain {
            self.draining.push((channel, handle));
        }
        if is_first {
            self.tell_active(channel, handle);
        }
        self.deliveries_wait = true;
    }

    /// Tells a client whether a link on which it receives from a quorum queue is active, if it was not told that.
    fn tell_active(&mut self, channel: u16, handle: u32) {
        let Some(open) = &mut self.open else { return };
        let link = open.sessions.get_mut(&channel).and_then(|session| session.outgoing.get_mut(&handle));
        let Some(link) = link else { return };
        let Some(is_active) = open.client.is_active(channel, &link.tag) else { return };
        if link.told_active.replace(is_active) != Some(is_active) {
            let mut properties = MapBuilder::new();
            properties.push(ACTIVE, is_active);
            if let Some(properties) = Fields::new(properties.view()) {
                self.protocol.tell_state(channel, handle, properties);
            }
        }
    }

    /// Tells clients of links that became active, or are no more.
    pub(super) fn tell_activity(&mut self) {
        let Some(open) = self.open.as_ref().filter(|open| open.client.take_activity()) else { return };
        let of_session = |(channel, session): (&u16, &Session)| {
            let told = session.outgoing.iter().filter(|(_, link)| link.told_active.is_some());
            told.map(|(handle, _)| (*channel, *handle)).collect::<Vec<_>>()
        };
        let links: Vec<_> = open.sessions.iter().flat_map(of_session).collect();
        for (channel, handle) in links {
            self.tell_active(channel, handle);
        }
    }

    /// Detach for good, by either side; see [`Self::end_link`].
    pub(super) fn on_detached(&mut self, channel: u16, handle: u32, router: &mut dyn Router) {
        self.end_link((channel, handle), None, router);
    }

    /// A link is gone. What the client has not settled goes back to its queue, or is kept if the link can be resumed and
    /// is not closed: then what is `over`, the link, its session or the connection, is said. What it has settled in a
    /// transaction waits for the end of that.
    pub(super) fn end_link(
        &mut self,
        (channel, handle): (u16, u32),
        over: Option<Over>,
        router: &mut dyn Router,
    ) {
        self.draining.retain(|of| *of != (channel, handle));
        self.forget_waiting((channel, handle));
        let Some(open) = &mut self.open else { return };
        let Some(session) = open.sessions.get_mut(&channel) else { return };
        session.incoming.remove(&handle);
        self.arriving.forget(channel, handle);
        self.departing.forget(channel, handle);
        session.pairs.forget(handle);
        let kept = session.kept.remove(&handle);
        let received = self.outcomes.tracked.detach((channel, handle), over.is_some());
        let mut unsettled = received.map(Unsettled::Received);
        session.limited.remove(&handle);
        if let Some(mut link) = session.outgoing.remove(&handle) {
            open.client.cancel(channel, &link.tag, router);
            let transactions = &mut self.transactions;
            transactions.forget_link(channel, handle);
            let tags = session.sent.take_link(handle, |id| transactions.holds(channel, id));
            // With its link alone it is released, as the source's default outcome says.
            let failed = matches!(over, Some(Over::Session | Over::Connection));
            if kept.is_some() && over.is_some() && tags.len() <= DELIVERIES_MAX {
                unsettled = self.hold(channel, &tags, link.resuming.take(), router).map(Unsettled::Sent);
            } else {
                for tag in tags {
                    // It was delivered on this channel, and is settled nowhere else.
                    let _ = open.client.settle(channel, tag, false, Settle::Requeue { failed });
                }
            }
            if let Some(open) = &mut self.open {
                open.client.tell_store();
            }
        }
        if let Some(kept) = kept {
            self.end_kept((channel, kept), over, unsettled, router.now_ms());
        }
        if let Some(session) = self.session(channel) {
            session.coordinators.remove(&handle);
        }
        self.end_transactions_of_link(channel, handle);
        self.management.forget_link(channel, handle);
        self.unmake_node(channel, handle, router);
    }

    /// Tells the client of links whose queues are gone.
    pub(super) fn tell_deleted(&mut self, router: &mut dyn Router) {
        let Some(open) = &mut self.open else { return };
        let cancelled = open.client.take_cancelled();
        for (channel, tag) in cancelled {
            let Some(handle) = handle_of(&tag) else { continue };
            let error = Error::new(Condition::ResourceDeleted, "the queue is deleted");
            self.protocol.detach(channel, handle, true, Some(&error));
            self.on_detached(channel, handle, router);
        }
    }

    pub(super) fn session(&mut self, channel: u16) -> Option<&mut Session> {
        self.open.as_mut()?.sessions.get_mut(&channel)
    }

    /// Renews the credit of a client that sends, at the half, unless memory or the disk is short.
    pub(super) fn renew_credit(&mut self, channel: u16, handle: u32) {
        if self.protocol.credit(channel, handle) > CREDIT / 2 {
            return;
        }
        if self.outcomes.tracked.is_full((channel, handle), CREDIT as usize) {
            self.resuming.is_credit_due = true;
            return;
        }
        if self.is_short() {
            self.is_credit_due = true;
            return;
        }
        self.protocol.grant(channel, handle, CREDIT);
    }

    /// A delivery came to nothing: it used credit all the same.
    pub(super) fn on_aborted(&mut self, channel: u16, handle: u32) {
        let Some(session) = self.session(channel) else { return };
        if session.pairs.takes(handle) {
            session.pairs.abort(handle);
            self.renew_requests(channel, handle);
        } else if session.coordinators.contains_key(&handle) {
            self.renew_requests_of_transactions(channel, handle);
        } else {
            self.renew_credit(channel, handle);
        }
    }

    /// Renews what was due while memory or the disk was short, or while too much was not settled.
    pub(super) fn renew_all_credit(&mut self) {
        let was_full = std::mem::take(&mut self.resuming.is_credit_due);
        if !std::mem::take(&mut self.is_credit_due) && !was_full {
            return;
        }
        for (channel, handle) in self.incoming_links() {
            self.renew_credit(channel, handle);
        }
        self.tell_blocked();
    }

    /// The links on which the client sends messages.
    pub(super) fn incoming_links(&self) -> Vec<(u16, u32)> {
        let sessions = self.open.iter().flat_map(|open| open.sessions.iter());
        let of_session = |(channel, session): (&u16, &Session)| {
            session.incoming.keys().map(|handle| (*channel, *handle)).collect::<Vec<_>>()
        };
        sessions.flat_map(of_session).collect()
    }
}

pub(super) fn read_address(address: &str) -> Result<Address, Refused> {
    Address::read(address).ok_or_else(|| {
        Refused::new(Condition::InvalidField, format!("'{address}' is no address, or an old one"))
    })
}

/// The tag of the consumer of a link.
pub(super) fn tag_of(handle: u32) -> Name {
    Name::cut(handle.to_string().as_bytes())
}

/// The link of a consumer.
pub(super) fn handle_of(tag: &[u8]) -> Option<u32> {
    tag.iter().try_fold(0u32, |handle, digit| {
        handle.checked_mul(10)?.checked_add(u32::from(digit.checked_sub(b'0')?))
    })
}
