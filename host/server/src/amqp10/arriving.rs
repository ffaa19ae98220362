//! Large messages that come in parts: what stands in front of the body is looked at with the first part, the body goes to
//! a file as it comes, and the message is published when it is whole there, and on disk.
//!
//! *Memory:* of each message that comes the first [`LARGE_MESSAGE_BYTES`], and what waits for the disk, which is at most
//! [`WAITING_BYTES_MAX`] and what was read at once: with more the connection is not read. One whose body does not begin with
//! its first bytes is held whole, and may be no larger than one that is always.
//!
//! *Order:* a message that is whole and not written yet holds back what comes behind it on its connection.

use super::{
    Connection, Open,
    answers::{Answer, Denied},
    publish::{Body, Incoming, txn_id_of},
};
use crate::amqp10::links::To;
use leveret_amqp10::{
    Condition,
    connection::{Delivery, LARGE_MESSAGE_BYTES, Part, Then},
    form::large::{Coming, KeptFar, Unkept},
    message::Message,
    messaging::MESSAGE_FORMAT,
};
use leveret_broker::port::{Router, Wake};
use leveret_model::{Stub, far::STUB_BYTES};
use leveret_store::{BodyFailed, BodyWriter};
use std::{collections::BTreeMap, sync::Arc};

/// So much of a message may wait to be written.
pub(super) const WAITING_BYTES_MAX: usize = 2 * 1024 * 1024;

/// So many come at once on a connection: each has a file that is open.
const ARRIVALS_MAX: usize = 64;

const _: () = assert!(LARGE_MESSAGE_BYTES > STUB_BYTES);

/// The messages that come in parts, by their sessions and links.
#[derive(Default)]
pub(super) struct Arriving {
    messages: BTreeMap<(u16, u32), Arrival>,
}

/// One of them.
enum Arrival {
    /// It comes.
    Coming(Box<Coming>, BodyWriter),
    /// All of it came, but not all is written.
    Ended { kept: KeptFar, writer: BodyWriter, told: Box<Told> },
    /// Its body does not begin with what is looked at first: it is held whole, and is no large one.
    Whole(Vec<u8>),
    /// It goes nowhere: what still comes is dropped.
    Denied(Denied),
}

/// What is known of a message that came, its bytes aside.
struct Told {
    delivery: Delivery<'static>,
    txn_id: Option<Vec<u8>>,
}

impl Arriving {
    /// Whether what comes is not to be handled: a message is whole and is not written yet, or too much waits for the disk.
    pub(super) fn is_waiting(&self) -> bool {
        self.messages.values().any(|arrival| match arrival {
            Arrival::Coming(_, writer) => writer.waiting_bytes() > WAITING_BYTES_MAX,
            Arrival::Ended { .. } => true,
            Arrival::Whole(_) | Arrival::Denied(_) => false,
        })
    }

    /// How many bytes of them are in memory.
    pub(super) fn kept_bytes(&self) -> usize {
        let of = |arrival: &Arrival| match arrival {
            Arrival::Coming(coming, writer) => coming.head().len() + writer.waiting_bytes(),
            Arrival::Ended { writer, .. } => writer.waiting_bytes(),
            Arrival::Whole(message) => message.len(),
            Arrival::Denied(_) => 0,
        };
        self.messages.values().map(of).sum()
    }

    /// How many bytes there are of messages that are held whole.
    fn whole_bytes(&self) -> usize {
        let of = |arrival: &Arrival| if let Arrival::Whole(message) = arrival { message.len() } else { 0 };
        self.messages.values().map(of).sum()
    }

    /// A link is gone, and with it what came on it.
    pub(super) fn forget(&mut self, channel: u16, handle: u32) {
        self.messages.remove(&(channel, handle));
    }

    /// A session is gone.
    pub(super) fn forget_session(&mut self, channel: u16) {
        self.messages.retain(|(of, _), _| *of != channel);
    }

    /// The connection is gone.
    pub(super) fn end(&mut self) {
        self.messages.clear();
    }
}

impl Connection {
    /// The next part of a message.
    pub(super) fn on_part(&mut self, part: Part<'_>, router: &mut dyn Router) {
        let at = (part.channel, part.handle);
        let arrival = match self.arriving.messages.remove(&at) {
            None => self.begin_arrival(at, &part.bytes),
            Some(Arrival::Coming(mut coming, writer)) => match coming.feed(&part.bytes) {
                Ok(()) => {
                    writer.put(&part.bytes);
                    Arrival::Coming(coming, writer)
                }
                Err(error) => Arrival::Denied(Denied::new(Condition::DecodeError, error.to_string())),
            },
            Some(Arrival::Whole(message)) => self.hold_whole(message, &part.bytes),
            Some(other) => other,
        };
        match part.then {
            Then::More => drop(self.arriving.messages.insert(at, arrival)),
            // The file goes with the writer.
            Then::Aborted => self.on_aborted(at.0, at.1),
            Then::End(delivery) => self.end_arrival(at, arrival, *delivery, router),
        }
    }

    fn begin_arrival(&mut self, at: (u16, u32), first: &[u8]) -> Arrival {
        let (coming, body) = match Coming::begin(first) {
            Ok(begun) => begun,
            Err(Unkept::TooLong(_)) => return self.hold_whole(Vec::new(), first),
            Err(error) => return Arrival::Denied(Denied::new(Condition::DecodeError, error.to_string())),
        };
        match self.begin_body(at, &coming, body) {
            Ok(writer) => Arrival::Coming(Box::new(coming), writer),
            Err(denied) => Arrival::Denied(denied),
        }
    }

    /// The next bytes of a message that is held whole, as long as it may be, with all others that are.
    fn hold_whole(&self, mut message: Vec<u8>, bytes: &[u8]) -> Arrival {
        let config = &self.shared.amqp10.usual;
        let (most, most_of_all) = (config.whole_message_bytes_max, config.parts_bytes_max);
        message.extend_from_slice(bytes);
        let of_all = (self.arriving.whole_bytes() + message.len()) as u64;
        if message.len() as u64 <= most && of_all <= most_of_all {
            return Arrival::Whole(message);
        }
        let text = format!(
            "a message of more than {most} bytes whose body does not begin within the first {LARGE_MESSAGE_BYTES}, or \
             more than {most_of_all} bytes of such"
        );
        Arrival::Denied(Denied::new(Condition::ResourceLimitExceeded, text))
    }

    /// Looks at what stands in front of the body, and begins to write that.
    fn begin_body(
        &mut self,
        (channel, handle): (u16, u32),
        coming: &Coming,
        body: &[u8],
    ) -> Result<BodyWriter, Denied> {
        Message::new(coming.head())
            .map_err(|error| Denied::new(Condition::DecodeError, error.to_string()))?;
        if self.arriving.messages.len() >= ARRIVALS_MAX {
            let text = format!("{ARRIVALS_MAX} large messages come on this connection already");
            return Err(Denied::new(Condition::ResourceLimitExceeded, text));
        }
        let gone = || Denied::new(Condition::NotFound, "the link is gone");
        let open = self.open.as_mut().ok_or_else(gone)?;
        let to = open.sessions.get(&channel).and_then(|session| session.incoming.get(&handle));
        if let To::Anywhere = to.ok_or_else(gone)?.to {
            // Where it does not say where it goes it is not written at all.
            open.addressed(coming.head())?;
        }
        let waker: Arc<dyn Wake> = self.wake.clone();
        let writer = self.shared.store.begin_body(waker);
        let writer = writer.map_err(|why| Denied::new(Condition::ResourceLimitExceeded, why.to_string()))?;
        writer.put(body);
        self.publishing.writes = true;
        Ok(writer)
    }

    /// All of a message came.
    fn end_arrival(
        &mut self,
        at: (u16, u32),
        arrival: Arrival,
        delivery: Delivery<'_>,
        router: &mut dyn Router,
    ) {
        if let Arrival::Whole(message) = arrival {
            return self.publish(vec![Delivery { message: message.into(), ..delivery }.into()], router);
        }
        let txn_id = txn_id_of(&delivery);
        let tag = delivery.tag.clone().into_owned().into();
        let delivery = Delivery { tag, message: Vec::new().into(), state: None, ..delivery };
        let told = Box::new(Told { delivery, txn_id });
        let (coming, writer) = match arrival {
            Arrival::Coming(coming, writer) => (coming, writer),
            Arrival::Denied(denied) => return self.deny_arrival(&told.delivery, denied, router),
            Arrival::Ended { .. } | Arrival::Whole(_) => return,
        };
        if told.delivery.message_format != MESSAGE_FORMAT {
            let text = format!("message-format {} is not known", told.delivery.message_format);
            return self.deny_arrival(&told.delivery, Denied::new(Condition::NotImplemented, text), router);
        }
        match coming.finish() {
            Ok(kept) => {
                writer.end();
                self.arriving.messages.insert(at, Arrival::Ended { kept, writer, told });
            }
            Err(error) => {
                let denied = Denied::new(Condition::DecodeError, error.to_string());
                self.deny_arrival(&told.delivery, denied, router);
            }
        }
    }

    fn deny_arrival(&mut self, delivery: &Delivery<'_>, denied: Denied, router: &mut dyn Router) {
        let answer = self.open.as_ref().and_then(|open| open.answer_for(delivery));
        if let Some((answer, _)) = answer {
            self.deny(answer, denied, router);
        }
        self.renew_credit(delivery.channel, delivery.handle);
    }

    /// After a wake: publishes what is written, and tells of what could not be. What came before it and waits comes first.
    pub(super) fn publish_arrived(&mut self, router: &mut dyn Router) {
        if self.publishing.has_behind() {
            return;
        }
        while let Some((at, outcome)) = self.arriving.take_failed_or_written() {
            let Some(Arrival::Ended { kept, told, .. }) = self.arriving.messages.remove(&at) else {
                continue;
            };
            match outcome {
                Ok(body) => self.publish_far(kept, *told, &body, router),
                Err(why) => self.deny_arrival(&told.delivery, denied_by(&why), router),
            }
        }
    }

    fn publish_far(
        &mut self,
        kept: KeptFar,
        told: Told,
        body: &Arc<leveret_store::Body>,
        router: &mut dyn Router,
    ) {
        let Told { delivery, txn_id } = told;
        let (channel, handle) = (delivery.channel, delivery.handle);
        if txn_id.is_none() && !delivery.settled {
            self.outcomes.tracked.begin((channel, handle), delivery.delivery_id, &delivery.tag);
        }
        let extent = body.extent();
        let (start, end) = kept.body;
        let stub = Stub { number: extent.number, file_bytes: extent.bytes, check: extent.check, start, end };
        let incoming = self.open.as_mut().and_then(|open| open.receive_far(&delivery, kept, (stub, body)));
        match (incoming, txn_id) {
            (None, _) => {}
            (Some(Err((answer, denied))), _) => self.deny(answer, denied, router),
            (Some(Ok(message)), None) => self.publish_all(vec![message], router),
            (Some(Ok(message)), Some(txn_id)) => self.publish_in_transaction(&txn_id, message, router),
        }
        self.outcomes.settle(&mut self.protocol);
        self.renew_credit(channel, handle);
        self.withhold_credit();
        self.tell_blocked();
    }
}

fn denied_by(why: &BodyFailed) -> Denied {
    match why {
        BodyFailed::Full => Denied::new(Condition::ResourceLimitExceeded, why.to_string()),
        BodyFailed::Disk(_) => {
            Denied::new(Condition::InternalError, format!("the message could not be written: {why}"))
        }
    }
}

impl Arriving {
    /// A message of which is known what came of writing it. One that still comes and cannot be written is denied.
    #[allow(clippy::type_complexity, reason = "said once")]
    fn take_failed_or_written(
        &mut self,
    ) -> Option<((u16, u32), Result<Arc<leveret_store::Body>, BodyFailed>)> {
        for (at, arrival) in &mut self.messages {
            match arrival {
                Arrival::Coming(_, writer) => {
                    if let Some(Err(why)) = writer.outcome() {
                        *arrival = Arrival::Denied(denied_by(&why));
                    }
                }
                Arrival::Ended { writer, .. } => {
                    if let Some(outcome) = writer.outcome() {
                        return Some((*at, outcome));
                    }
                }
                Arrival::Whole(_) | Arrival::Denied(_) => {}
            }
        }
        None
    }
}

impl Open {
    /// A message whose body is in a file: what it says, and where it goes. `None` if its link is gone.
    #[allow(clippy::result_large_err, reason = "it is rare, and dealt with at once")]
    fn receive_far(
        &mut self,
        delivery: &Delivery<'_>,
        kept: KeptFar,
        (stub, file): (Stub, &Arc<leveret_store::Body>),
    ) -> Option<Result<Incoming<'static>, (Answer, Denied)>> {
        let (answer, to) = self.answer_for(delivery)?;
        let addressed = match to {
            To::Node(node) => Ok(node),
            To::Anywhere => self.addressed(kept.properties.get(..kept.head_bytes).unwrap_or_default()),
        };
        let body = Body::Far { properties: kept.properties, stub: stub.encode(), file: file.clone() };
        let made = addressed.and_then(|to| {
            let mut incoming = Incoming::new(answer, to, body);
            incoming.more_keys = self.look_at(&incoming)?;
            Ok(incoming)
        });
        Some(made.map_err(|denied| (answer, denied)))
    }
}
