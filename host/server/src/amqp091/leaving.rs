//! Large messages on their way out: the body is read from its file as the socket takes it.
//!
//! A content is not to be interrupted on its channel (section 4.2.6), so while one goes out what else the session says waits
//! behind it, and counts as output: with too much of it requests are not handled.

use super::Connection;
use crate::{
    conversion,
    store::{DiskStore, FarReader, Patience},
};
use leveret_amqp091::{Session, delivery::Delivery, form::FORM};
use leveret_broker::{
    Settle,
    port::Router,
    store::{FarBody, Store as _},
};
use leveret_model::{MessageView, Stub};
use leveret_store::Unreadable;

/// The most that is read at once.
const PART_BYTES_MAX: usize = 64 * 1024;

/// A message that goes out.
pub(super) struct Leaving {
    channel: u16,
    delivery_tag: u64,
    stub: Stub,
    /// Nobody else may have the file any more.
    far: Option<FarBody>,
    reader: Option<FarReader>,
    /// What goes to the socket: what was said before, and the message.
    wire: Vec<u8>,
    patience: Patience,
    part: Vec<u8>,
}

/// How a message is told of.
pub(super) enum Head<'a> {
    Deliver(Delivery<'a>),
    /// The answer to basic.get: its number, whether it was delivered before, and how many are left.
    GetOk(u64, bool, u32),
}

/// Begins to send a message whose body is in a file. `None` if its channel is closed.
pub(super) fn begin(
    session: &mut Session,
    store: &DiskStore,
    channel: u16,
    head: &Head<'_>,
    (message, stub): (&MessageView<'_>, &Stub),
) -> Option<Leaving> {
    let near = MessageView { form: message.near_form(), ..*message };
    let (properties, _) = if conversion::is_of(near.form, FORM) {
        (near.properties.into(), near.body.into())
    } else {
        conversion::to_amqp091(&near)
    };
    let message = MessageView { form: FORM, properties: &properties, body: &[], ..near };
    let (delivery_tag, is_open) = match head {
        Head::Deliver(delivery) => {
            let is_open = session.begin_delivery(channel, delivery, &message, stub.body_bytes());
            (delivery.delivery_tag, is_open)
        }
        Head::GetOk(tag, redelivered, left) => {
            let told = (*tag, *redelivered, *left);
            (*tag, session.begin_get_ok(channel, told, &message, stub.body_bytes()))
        }
    };
    let wire = is_open.then(|| std::mem::take(session.output()))?;
    let (stub, far, reader, patience, part) = (*stub, store.far(stub), None, Patience::default(), Vec::new());
    Some(Leaving { channel, delivery_tag, stub, far, reader, wire, patience, part })
}

impl Leaving {
    /// What goes to the socket.
    pub(super) fn wire(&mut self) -> &mut Vec<u8> {
        &mut self.wire
    }

    /// When it is to be tried again, in milliseconds since 1970.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.patience.due_ms()
    }

    /// Puts parts until so many bytes wait for the socket; whether that was the last.
    fn go_on(
        &mut self,
        (session, store): (&Session, &DiskStore),
        output_bytes_max: usize,
        now_ms: u64,
    ) -> Result<bool, Unreadable> {
        if self.patience.waits(now_ms) {
            return Ok(false);
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => match store.open_body(&self.stub) {
                Ok(reader) => none.insert(reader),
                Err(error) => {
                    return self.patience.failed(Unreadable::Disk(error), now_ms).map(|()| false);
                }
            },
        };
        // The reader holds on to it from now on.
        self.far = None;
        while reader.left_bytes() > 0 {
            if self.wire.len() >= output_bytes_max {
                return Ok(false);
            }
            self.part.clear();
            if let Err(why) = reader.read(PART_BYTES_MAX, &mut self.part) {
                return self.patience.failed(why, now_ms).map(|()| false);
            }
            self.patience.read();
            session.put_body(&mut self.wire, self.channel, &self.part);
        }
        Ok(true)
    }
}

impl Connection {
    /// Goes on with the large message that goes out, if one does; whether none does any more.
    pub(super) fn send_leaving(&mut self, output_bytes_max: usize, router: &mut dyn Router) -> bool {
        let Some(leaving) = &mut self.leaving else { return true };
        let about = (&self.session, &self.shared.store);
        match leaving.go_on(about, output_bytes_max, router.now_ms()) {
            Ok(false) => return false,
            Ok(true) => drop(self.end_leaving()),
            Err(why) => self.give_up_leaving(&why, router),
        }
        true
    }

    /// What was said meanwhile comes behind it.
    fn end_leaving(&mut self) -> Option<(u16, u64)> {
        let mut leaving = self.leaving.take()?;
        let output = self.session.output();
        leaving.wire.append(output);
        *output = leaving.wire;
        Some((leaving.channel, leaving.delivery_tag))
    }

    /// A message that cannot be read is as one that was rejected. What was begun cannot be ended but with the connection.
    fn give_up_leaving(&mut self, why: &Unreadable, router: &mut dyn Router) {
        tracing::error!("{}: a large message cannot be delivered: {why}", self.peer);
        if let (Some((channel, tag)), Some(open)) = (self.end_leaving(), &mut self.open) {
            // It may be settled already.
            let _ = open.client.settle(channel, tag, false, Settle::Rejected);
        }
        self.end_settling(router);
        if !self.session.is_closing() {
            self.session.close_connection(541, "INTERNAL_ERROR - a message cannot be read");
            self.end(router);
        }
    }
}
