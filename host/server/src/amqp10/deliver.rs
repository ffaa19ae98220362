//! Deliveries on their way out: encoded straight from the queue into the connection's output.

use super::{
    Connection, Session,
    departing::{Departing, Departure, is_free},
    links::{Beside, handle_of},
    resuming::Tag,
};
use crate::{
    conversion,
    store::{DiskStore, Patience},
};
use leveret_amqp10::{
    Condition,
    connection::{self as protocol, NotSent, Outgoing},
    coordinator::TransactionId,
    form::{self, Giving, Head, give, give_around},
    messaging::MESSAGE_FORMAT,
    performatives::{DeliveryTag, Error},
};
use leveret_broker::{Delivery, Settle, Sink, port::Router, store::Store as _};
use leveret_model::{MessageView, Name, Stub};
use litemap::LiteMap;
use std::borrow::Cow;

/// What is made anew of a message, and what was not sent.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) head: Head,
    unsent: Vec<Unsent>,
    /// Were sent settled, and are in their queues still: channels, and the broker's numbers.
    checked: Vec<(u16, u64)>,
    /// Were acquired: sessions, and numbers there.
    acquired: Vec<(TransactionId, (u16, u32))>,
}

impl Scratch {
    /// What was acquired since this was asked.
    pub(super) fn take_acquired(&mut self) -> Vec<(TransactionId, (u16, u32))> {
        std::mem::take(&mut self.acquired)
    }

    /// A message could not be sent on a link. It is given back at the end of the turn.
    pub(super) fn give_back(&mut self, channel: u16, handle: u32, tag: Option<u64>, why: NotSent) {
        self.unsent.push(Unsent { channel, handle: Some(handle), tag, why });
    }
}

/// A message that could not be sent.
struct Unsent {
    channel: u16,
    handle: Option<u32>,
    /// The broker's number, unless it is settled already.
    tag: Option<u64>,
    why: NotSent,
}

struct LinkSink<'a> {
    protocol: &'a mut protocol::Connection,
    departing: &'a mut Departing,
    store: &'a DiskStore,
    sessions: &'a mut LiteMap<u16, Session>,
    scratch: &'a mut Scratch,
    output_bytes_max: usize,
}

impl Sink for LinkSink<'_> {
    fn has_room(&self) -> bool {
        self.protocol.output_bytes() < self.output_bytes_max
    }

    fn has_room_on(&self, channel: u16) -> bool {
        self.has_room() && self.protocol.has_window(channel)
    }

    fn has_room_for(&self, channel: u16, consumer_tag: &Name) -> bool {
        self.has_room_on(channel) && is_free(self.departing, channel, handle_of(consumer_tag))
    }

    fn deliver(&mut self, delivery: Delivery<'_>) {
        let (channel, tag) = (delivery.channel, delivery.delivery_tag);
        let handle = handle_of(delivery.consumer_tag);
        let link = self.sessions.get_mut(&channel).zip(handle);
        let link = link.and_then(|(session, handle)| {
            let link = session.outgoing.get(&handle)?;
            let epoch = link.resuming.as_ref().map_or(0, |link| link.epoch());
            let how = (link.settled, link.beside);
            Some((session, handle, how, epoch))
        });
        let Some((session, handle, (settled, beside), epoch)) = link else {
            return self.scratch.unsent.push(Unsent {
                channel,
                handle,
                tag: Some(tag),
                why: NotSent::NoLink,
            });
        };
        let message = &delivery.message;
        let name = Tag::new(epoch, tag);
        let giving = Giving {
            exchange: message.exchange,
            routing_key: message.routing_key,
            redelivered: delivery.redelivered,
        };
        let sent = if let Some(stub) = message.far() {
            let begun = begin(Begin {
                protocol: self.protocol,
                to: (channel, handle, settled),
                message: (message, &stub),
                giving: (&giving, &name),
                head: &mut self.scratch.head,
                how: How::of(beside),
            });
            begun.map(|(id, departure)| {
                let far = self.store.far(&stub);
                self.departing.push(Departure { far, ..departure });
                id
            })
        } else {
            let (properties, body) = in_form(message);
            let pieces = give(&properties, &body, &giving, &mut self.scratch.head);
            let outgoing = Outgoing {
                tag: DeliveryTag::new(name.bytes()).unwrap_or_default(),
                message_format: MESSAGE_FORMAT,
                settled,
                message: &pieces,
            };
            match beside {
                Beside::Acquired(id) => {
                    self.protocol.deliver_acquired(channel, handle, &outgoing, id.as_bytes())
                }
                Beside::Nothing | Beside::Checked | Beside::Copied => {
                    self.protocol.deliver(channel, handle, &outgoing)
                }
            }
        };
        match (sent, beside) {
            (Ok(_), Beside::Checked) => self.scratch.checked.push((channel, tag)),
            (Ok(_), _) if settled => {}
            (Ok(id), beside) => {
                session.sent.push(id, handle, tag);
                if let Beside::Acquired(transaction) = beside {
                    self.scratch.acquired.push((transaction, (channel, id)));
                }
            }
            // The queue has it, unless its consumer acknowledges nothing.
            (Err(why), Beside::Nothing) => {
                self.scratch.give_back(channel, handle, (!settled).then_some(tag), why);
            }
            (Err(why), _) => self.scratch.give_back(channel, handle, Some(tag), why),
        }
    }
}

/// How the first bytes of a message are sent whose body is in a file.
enum How {
    Plainly,
    Again,
    /// It is acquired in a transaction.
    Acquired(TransactionId),
}

impl How {
    fn of(beside: Beside) -> Self {
        match beside {
            Beside::Acquired(id) => Self::Acquired(id),
            Beside::Nothing | Beside::Checked | Beside::Copied => Self::Plainly,
        }
    }
}

/// A delivery of such a message.
struct Begin<'a, 'm> {
    protocol: &'a mut protocol::Connection,
    to: (u16, u32, bool),
    message: (&'a MessageView<'m>, &'a Stub),
    giving: (&'a Giving<'a>, &'a Tag),
    head: &'a mut Head,
    how: How,
}

/// Begins it. Gives its number in the session too.
fn begin(begin: Begin<'_, '_>) -> Result<(u32, Departure), NotSent> {
    let Begin { protocol, to: (channel, handle, settled), message, giving, head, how } = begin;
    let ((message, stub), (giving, name)) = (message, giving);
    let body_bytes = usize::try_from(stub.body_bytes()).unwrap_or(usize::MAX);
    let (before, footer) = give_around(message.properties, body_bytes, giving, head);
    let around: usize = before.iter().map(|piece| piece.len()).sum::<usize>() + footer.len();
    let outgoing = Outgoing {
        tag: DeliveryTag::new(name.bytes()).unwrap_or_default(),
        message_format: MESSAGE_FORMAT,
        settled,
        message: &before,
    };
    let bytes = stub.body_bytes() + around as u64;
    let number = match how {
        How::Plainly => protocol.begin_delivery(channel, handle, &outgoing, bytes)?,
        How::Again => protocol.begin_resumed(channel, handle, &outgoing, bytes)?,
        How::Acquired(id) => protocol.begin_acquired(channel, handle, &outgoing, bytes, id.as_bytes())?,
    };
    let (id, footer, stub) = ((!settled).then_some(number), footer.into(), *stub);
    let (far, reader, patience, is_taken_back) = (None, None, Patience::default(), false);
    Ok((number, Departure { channel, handle, id, stub, footer, far, reader, patience, is_taken_back }))
}

/// What a delivery that is resumed is sent with.
pub(super) struct SendAgain<'a> {
    pub(super) protocol: &'a mut protocol::Connection,
    pub(super) at: (u16, u32),
    pub(super) name: &'a Tag,
    pub(super) head: &'a mut Head,
}

/// Sends the message of a delivery that is resumed: its number in the session, and what is left of a large one.
pub(super) fn send_again(
    to: SendAgain<'_>,
    message: &MessageView<'_>,
    redelivered: bool,
) -> Result<(u32, Option<Departure>), NotSent> {
    let SendAgain { protocol, at: (channel, handle), name, head } = to;
    let giving = Giving { exchange: message.exchange, routing_key: message.routing_key, redelivered };
    if let Some(stub) = message.far() {
        let to = (channel, handle, false);
        let (message, giving) = ((message, &stub), (&giving, name));
        let (id, departure) = begin(Begin { protocol, to, message, giving, head, how: How::Again })?;
        return Ok((id, Some(departure)));
    }
    let (properties, body) = in_form(message);
    let pieces = give(&properties, &body, &giving, head);
    let outgoing = Outgoing {
        tag: DeliveryTag::new(name.bytes()).unwrap_or_default(),
        message_format: MESSAGE_FORMAT,
        settled: false,
        message: &pieces,
    };
    protocol.resume(channel, handle, &outgoing, None).map(|id| (id, None))
}

/// Properties and body of a message in the form of this protocol.
fn in_form<'a>(message: &MessageView<'a>) -> (Cow<'a, [u8]>, Cow<'a, [u8]>) {
    if conversion::is_of(message.form, form::FORM) {
        (Cow::Borrowed(message.properties), Cow::Borrowed(message.body))
    } else {
        conversion::to_amqp10(message)
    }
}

impl Connection {
    /// Encodes deliveries until `output_bytes_max` wait for the socket.
    pub fn deliver(&mut self, output_bytes_max: usize, router: &mut dyn Router) {
        self.deliveries_wait = false;
        let mut again = self.departing.takes_turns() && self.send_parts(output_bytes_max, router);
        again |= self.send_resumed(output_bytes_max, router);
        let Some(open) = &mut self.open else { return };
        let mut sink = LinkSink {
            protocol: &mut self.protocol,
            departing: &mut self.departing,
            store: &self.shared.store,
            sessions: &mut open.sessions,
            scratch: &mut self.scratch,
            output_bytes_max,
        };
        self.deliveries_wait = open.client.deliver(router, &mut sink);
        again |= self.send_parts(output_bytes_max, router);
        self.deliveries_wait |= again;
        if !self.scratch.checked.is_empty() {
            self.settle_checked();
        }
        if !self.scratch.acquired.is_empty() {
            self.note_acquired();
        }
        if !self.scratch.unsent.is_empty() {
            self.give_back_unsent(router);
        }
        self.charge_kept();
        if !self.draining.is_empty() && !self.deliveries_wait {
            self.end_draining();
        }
    }

    /// Tells links that want to know that there is nothing more for them (section 2.6.7).
    fn end_draining(&mut self) {
        let Some(open) = &mut self.open else { return };
        self.draining.retain(|(channel, handle)| {
            let Some(link) = open.sessions.get(channel).and_then(|session| session.outgoing.get(handle))
            else {
                return false;
            };
            if open.client.is_waiting(*channel, &link.tag) || self.resuming.is_sending(*channel, *handle) {
                return true;
            }
            open.client.grant(*channel, &link.tag, 0);
            self.protocol.drained(*channel, *handle, open.available(*channel, *handle));
            false
        });
    }

    /// Messages that were sent settled, and were not too large, are done with.
    #[cold]
    fn settle_checked(&mut self) {
        let Some(open) = &mut self.open else { return };
        for (channel, tag) in self.scratch.checked.drain(..) {
            // It was delivered a moment ago.
            let _ = open.client.settle(channel, tag, false, Settle::Accepted);
        }
        open.client.tell_store();
    }

    /// Messages that could not be sent go back. Of one that the client does not take, being too large, the link is
    /// detached.
    fn give_back_unsent(&mut self, router: &mut dyn Router) {
        for unsent in std::mem::take(&mut self.scratch.unsent) {
            let Unsent { channel, handle, tag, why } = unsent;
            let is_too_large = matches!(why, NotSent::TooLarge { .. });
            tracing::warn!("{}: a message is not delivered: {why}", self.peer);
            if let (Some(open), Some(tag)) = (&mut self.open, tag) {
                // Others may take what is too large for this one; who cannot be given it counts as one who fails.
                let outcome = Settle::Requeue { failed: is_too_large };
                // It was delivered a moment ago.
                let _ = open.client.settle(channel, tag, false, outcome);
            }
            if let (true, Some(handle)) = (is_too_large, handle) {
                let text = why.to_string();
                let error = Error::new(Condition::MessageSizeExceeded, &text);
                self.protocol.detach(channel, handle, true, Some(&error));
                self.on_detached(channel, handle, router);
            }
        }
        self.end_settling(&mut true, router);
    }
}
