//! The frames of an open connection.

use super::{
    Connection, Delivery, Event, Failure, LARGE_MESSAGE_BYTES, Notice, Part, Phase, Then,
    link::{LINK_NAME_BYTES_MAX, Link, Partial, Stage, Wrong, txn_id},
    session::{DeliveryIds, Session},
};
use crate::{
    Condition,
    frame::{self, Frame},
    performatives::{Attach, Begin, Close, Detach, End, Error, Flow, Performative, Role, Transfer},
};
use alloc::{borrow::Cow, boxed::Box, format, vec::Vec};

impl Connection {
    pub(super) fn on_frame<'b>(&mut self, frame: &Frame<'b>) -> Result<Option<Event<'b>>, Failure> {
        let channel = frame.channel;
        if let Some((transfer, payload)) = Transfer::of_body(frame.body)
            && self.sessions.get(&channel).is_some_and(|session| !session.is_ending)
        {
            return self.on_transfer(channel, &transfer, payload);
        }
        let (performative, payload) = Performative::from_body(frame.body)?;
        match performative {
            Performative::Open(_) => {
                return Err(Failure::connection(Condition::IllegalState, "the connection is open already"));
            }
            Performative::Close(_) => {
                frame::put_performative(&mut self.output, 0, &Close::default());
                self.end_connection(Phase::Closed);
                return Ok(None);
            }
            Performative::Begin(begin) => return self.on_begin(channel, &begin),
            _ => {}
        }
        let Some(session) = self.sessions.get(&channel) else {
            let text = format!("there is no session on channel {channel}");
            return Err(Failure::connection(Condition::FramingError, text));
        };
        if session.is_ending {
            // Until the client's end everything is dropped (section 2.5.5, DISCARDING).
            if let Performative::End(_) = performative {
                self.sessions.remove(&channel);
            }
            return Ok(None);
        }
        match performative {
            Performative::Attach(attach) => self.on_attach(channel, attach),
            Performative::Flow(flow) => self.on_flow(channel, &flow),
            Performative::Transfer(transfer) => self.on_transfer(channel, &transfer, payload),
            Performative::Disposition(disposition) => Ok(Some(Event::Disposition { channel, disposition })),
            Performative::Detach(detach) => self.on_detach(channel, &detach),
            Performative::End(_) => {
                self.sessions.remove(&channel);
                frame::put_performative(&mut self.output, channel, &End::default());
                Ok(Some(Event::Ended { channel }))
            }
            Performative::Open(_) | Performative::Close(_) | Performative::Begin(_) => Ok(None),
        }
    }

    /// Begin (2.7.2). framing-error for a channel beyond the highest; not-allowed for an answer to what was not asked,
    /// and for a channel that cannot be answered on or is in use.
    fn on_begin<'b>(&mut self, channel: u16, begin: &Begin<'_>) -> Result<Option<Event<'b>>, Failure> {
        let highest = self.config.channel_max;
        if channel > highest {
            let text = format!("channel number ({channel}) exceeds maximum channel number ({highest})");
            return Err(Failure::connection(Condition::FramingError, text));
        }
        let why = if begin.remote_channel.is_some() {
            "no session was begun from here"
        } else if channel > self.remote_channel_max {
            "the channel is beyond the client's own channel-max"
        } else if self.sessions.contains_key(&channel) {
            "the channel has a session"
        } else {
            let session = Session::new(begin, self.config.incoming_window);
            let answer = Begin { handle_max: self.config.handle_max, ..session.begin(channel) };
            frame::put_performative(&mut self.output, channel, &answer);
            self.sessions.insert(channel, session);
            return Ok(Some(Event::Began { channel }));
        };
        Err(Failure::connection(Condition::NotAllowed, format!("begin on channel {channel}: {why}")))
    }

    /// Attach (2.7.3). framing-error for a handle beyond the highest; handle-in-use; not-allowed for one that cannot
    /// be answered with; invalid-field for a name that is too long, and for a sender that does not say where it begins
    /// to count. An attachment of the
    /// same name and direction that is there is stolen (section 2.6.1).
    fn on_attach<'b>(&mut self, channel: u16, attach: Attach<'b>) -> Result<Option<Event<'b>>, Failure> {
        let (handle, highest) = (attach.handle, self.config.handle_max);
        if handle > highest {
            let text = format!("handle ({handle}) exceeds maximum handle ({highest})");
            return Err(Failure::connection(Condition::FramingError, text));
        }
        let Some(session) = self.sessions.get(&channel) else { return Ok(None) };
        if session.links.contains_key(&handle) {
            let text = format!("handle {handle} is already associated with a link");
            return Err(Failure::session(channel, Condition::HandleInUse, text));
        }
        if handle > session.remote_handle_max {
            let text = format!("handle {handle} is beyond the client's own handle-max");
            return Err(Failure::session(channel, Condition::NotAllowed, text));
        }
        if attach.name.len() > LINK_NAME_BYTES_MAX {
            let text = format!("the name of a link has more than {LINK_NAME_BYTES_MAX} bytes");
            return Err(Failure::session(channel, Condition::InvalidField, text));
        }
        let link = Link::new(&attach);
        if let Some((of_channel, of_handle)) = self.same_link(&link) {
            let error = Error::new(Condition::Stolen, "the link was attached again");
            // Not closed: there are clients that forget a link, and take the end of that for one of its successor.
            self.detach_with(of_channel, of_handle, false, Some(error));
            let detached = Notice::Detached { channel: of_channel, handle: of_handle, closed: false };
            self.notices.push_back(detached);
            // The caller is told that first.
            self.is_frame_left = true;
            return Ok(None);
        }
        if let Some(session) = self.sessions.get_mut(&channel) {
            session.links.insert(handle, link);
        }
        if attach.role == Role::Sender && attach.initial_delivery_count.is_none() {
            let error =
                Error::new(Condition::InvalidField, "a sender has to give its initial-delivery-count");
            self.detach_with(channel, handle, true, Some(error));
            return Ok(None);
        }
        Ok(Some(Event::Attach { channel, attach: Box::new(attach) }))
    }

    /// Channel and handle of a live link of the same name and direction.
    fn same_link(&self, link: &Link) -> Option<(u16, u32)> {
        let all = self.sessions.iter().flat_map(|(channel, session)| {
            session.links.iter().map(move |(handle, link)| (*channel, *handle, link))
        });
        let same = |other: &Link| {
            other.role == link.role && other.stage != Stage::Detaching && other.name == link.name
        };
        all.into_iter().find(|(_, _, other)| same(other)).map(|(channel, handle, _)| (channel, handle))
    }

    /// Flow (2.7.4). window-violation if it expects transfers that were not sent; unattached-handle.
    fn on_flow<'b>(&mut self, channel: u16, flow: &Flow<'b>) -> Result<Option<Event<'b>>, Failure> {
        let had_much_pending = self.has_much_pending();
        let Some(session) = self.sessions.get_mut(&channel) else { return Ok(None) };
        let had_room = session.has_room();
        if !session.on_flow(flow, &mut self.output) {
            let text = "next-incoming-id is beyond the transfers that were sent";
            return Err(Failure::session(channel, Condition::WindowViolation, text));
        }
        let mut answer = session.flow();
        let is_open = !had_room && session.has_room();
        if is_open || had_much_pending && !self.has_much_pending() {
            self.notices.push_back(Notice::Window(channel));
        }
        let Some(handle) = flow.handle else {
            if flow.echo {
                frame::put_performative(&mut self.output, channel, &answer);
            }
            return Ok(None);
        };
        let link = self.sessions.get_mut(&channel).and_then(|session| session.links.get_mut(&handle));
        let Some(link) = link else { return Err(unattached(channel, handle)) };
        if link.stage == Stage::Detaching {
            return Ok(None);
        }
        link.on_flow(flow);
        if link.stage != Stage::Attached {
            // It is answered when the link is attached from here too.
            link.is_echo_wanted |= flow.echo;
            return Ok(None);
        }
        if link.role == Role::Sender {
            let (credit, drain, echo, properties) = (link.credit, link.drain, flow.echo, flow.properties);
            return Ok(Some(Event::Credit { channel, handle, credit, drain, echo, properties }));
        }
        if flow.echo {
            link.put_state(handle, &mut answer);
            frame::put_performative(&mut self.output, channel, &answer);
        }
        Ok(None)
    }

    /// Transfer (2.7.5). Of the session: window-violation, unattached-handle, invalid-field for a delivery-id that is
    /// not after the last one. Of the link: transfer-limit-exceeded, message-size-exceeded, resource-limit-exceeded
    /// where parts of messages take too much, not-allowed where this side is the one that sends, invalid-field for what
    /// contradicts the first transfer or the sender's settle mode.
    fn on_transfer<'b>(
        &mut self,
        channel: u16,
        transfer: &Transfer<'b>,
        payload: &'b [u8],
    ) -> Result<Option<Event<'b>>, Failure> {
        let Some(session) = self.sessions.get_mut(&channel) else { return Ok(None) };
        if !session.on_transfer() {
            let text = "a transfer beyond the session's incoming-window";
            return Err(Failure::session(channel, Condition::WindowViolation, text));
        }
        if session.renew_window() {
            frame::put_performative(&mut self.output, channel, &session.flow());
        }
        let handle = transfer.handle;
        let Session { links, delivery_ids, .. } = session;
        let Some(link) = links.get_mut(&handle) else { return Err(unattached(channel, handle)) };
        if link.stage == Stage::Detaching {
            return Ok(None);
        }
        let event = take_transfer(channel, delivery_ids, link, transfer, payload)?;
        if transfer.more {
            self.keeps_parts = true;
            let bytes = self.sessions.values().map(Session::partial_bytes).sum::<usize>() as u64;
            let bytes_max = self.config.parts_bytes_max;
            if bytes > bytes_max {
                let text =
                    format!("parts of messages: {bytes} bytes > {bytes_max} bytes for all links together");
                return Err(Failure::link(channel, handle, Condition::ResourceLimitExceeded, text));
            }
        }
        if transfer.aborted && event.is_none() {
            return Ok(Some(Event::Aborted { channel, handle }));
        }
        Ok(event)
    }

    /// How many bytes of messages are kept here, of those that have not come whole and of those that clients' windows
    /// have no room for. They are in no other account, and not in [`Connection::output`].
    pub fn kept_bytes(&mut self) -> usize {
        if !self.keeps_parts {
            return 0;
        }
        let of_session = |session: &Session| session.pending_bytes() + session.partial_bytes();
        let bytes = self.sessions.values().map(of_session).sum();
        self.keeps_parts = bytes > 0;
        bytes
    }

    /// Whether of a delivery that is posted in this transaction only a part has come; then it cannot be discharged
    /// (section 4.4.1).
    #[must_use]
    pub fn has_partial(&self, txn_id: &[u8]) -> bool {
        let links = self.sessions.values().flat_map(|session| session.links.values());
        links
            .filter_map(|link| link.partial.as_ref())
            .any(|partial| partial.txn_id.as_deref() == Some(txn_id))
    }

    /// Detach (2.7.7). unattached-handle.
    fn on_detach<'b>(&mut self, channel: u16, detach: &Detach<'b>) -> Result<Option<Event<'b>>, Failure> {
        let handle = detach.handle;
        let Some(session) = self.sessions.get_mut(&channel) else { return Ok(None) };
        let Some(link) = session.links.get_mut(&handle) else { return Err(unattached(channel, handle)) };
        match link.stage {
            Stage::Attaching { .. } => {
                link.stage = Stage::Attaching { detached: Some(detach.closed) };
                return Ok(None);
            }
            Stage::Detaching => {
                session.links.remove(&handle);
                return Ok(None);
            }
            Stage::Attached => {}
        }
        session.links.remove(&handle);
        self.drop_pending_of(channel, handle);
        let answer = Detach { handle, closed: detach.closed, error: None };
        frame::put_performative(&mut self.output, channel, &answer);
        Ok(Some(Event::Detached { channel, handle, closed: detach.closed, error: detach.error }))
    }
}

fn unattached(channel: u16, handle: u32) -> Failure {
    Failure::session(channel, Condition::UnattachedHandle, format!("no link has the handle {handle}"))
}

/// What a transfer completes, if it does.
fn take_transfer<'b>(
    channel: u16,
    delivery_ids: &mut DeliveryIds,
    link: &mut Link,
    transfer: &Transfer<'b>,
    payload: &'b [u8],
) -> Result<Option<Event<'b>>, Failure> {
    let handle = transfer.handle;
    let of_link = |(condition, text): Wrong| Failure::link(channel, handle, condition, text);
    if link.role == Role::Sender {
        return Err(of_link((Condition::NotAllowed, "a transfer to the side that sends".into())));
    }
    if let Some(partial) = link.partial.take() {
        return go_on((channel, link), partial, transfer, payload).map_err(of_link);
    }
    let (delivery_id, tag) = link.begin_delivery(transfer).map_err(of_link)?;
    if !delivery_ids.on_new(delivery_id) {
        let text = format!("the delivery-id {delivery_id} is not after the last one");
        return Err(Failure::session(channel, Condition::InvalidField, text));
    }
    if transfer.resume {
        return Ok(begin_resumed(channel, link, transfer, (delivery_id, tag)));
    }
    if transfer.aborted {
        return Ok(None);
    }
    check_size(payload.len() as u64, link.message_bytes_max).map_err(of_link)?;
    let settled = transfer.settled.unwrap_or(false);
    let message_format = transfer.message_format.unwrap_or(crate::messaging::MESSAGE_FORMAT);
    if transfer.more {
        let (tag, message) = (tag.to_vec(), payload.to_vec());
        let txn_id = txn_id(transfer).map(<[u8]>::to_vec);
        let handed_bytes = 0;
        link.partial = Some(Partial {
            delivery_id,
            tag,
            message_format,
            settled,
            rcv_settle_mode: transfer.rcv_settle_mode,
            resumed: false,
            txn_id,
            message,
            handed_bytes,
        });
        return Ok(None);
    }
    link.check_settled(settled, transfer.rcv_settle_mode).map_err(of_link)?;
    Ok(Some(Event::Delivery(Delivery {
        channel,
        handle,
        delivery_id,
        tag: Cow::Borrowed(tag),
        message_format,
        settled,
        rcv_settle_mode: transfer.rcv_settle_mode,
        state: transfer.state.map(Box::new),
        batchable: transfer.batchable,
        resumed: false,
        message: Cow::Borrowed(payload),
    })))
}

/// The first transfer of a delivery that goes on from an earlier attachment: nothing is kept of its message. One that is
/// aborted is settled (2.7.5).
#[cold]
fn begin_resumed<'b>(
    channel: u16,
    link: &mut Link,
    transfer: &Transfer<'b>,
    (delivery_id, tag): (u32, &'b [u8]),
) -> Option<Event<'b>> {
    let settled = transfer.settled.unwrap_or(false) || transfer.aborted;
    let message_format = transfer.message_format.unwrap_or(crate::messaging::MESSAGE_FORMAT);
    if transfer.more && !transfer.aborted {
        link.partial = Some(Partial {
            delivery_id,
            tag: tag.to_vec(),
            message_format,
            settled,
            rcv_settle_mode: transfer.rcv_settle_mode,
            resumed: true,
            txn_id: txn_id(transfer).map(<[u8]>::to_vec),
            message: Vec::new(),
            handed_bytes: 0,
        });
        return None;
    }
    Some(Event::Delivery(Delivery {
        channel,
        handle: transfer.handle,
        delivery_id,
        tag: Cow::Borrowed(tag),
        message_format,
        settled,
        rcv_settle_mode: transfer.rcv_settle_mode,
        state: transfer.state.map(Box::new),
        batchable: transfer.batchable,
        resumed: true,
        message: Cow::Borrowed(&[]),
    }))
}

/// A further transfer of a delivery. What is aborted is forgotten; one that goes on from an earlier attachment is settled so.
fn go_on<'b>(
    (channel, link): (u16, &mut Link),
    mut partial: Partial,
    transfer: &Transfer<'b>,
    payload: &'b [u8],
) -> Result<Option<Event<'b>>, Wrong> {
    Link::check_same(&partial, transfer)?;
    let handle = transfer.handle;
    let part = |bytes, then| Ok(Some(Event::Part(Part { channel, handle, bytes, then })));
    let was_handed = partial.handed_bytes > 0;
    let payload = if partial.resumed { &[][..] } else { payload };
    if transfer.aborted && !partial.resumed {
        return if was_handed { part(Cow::Borrowed(&[]), Then::Aborted) } else { Ok(None) };
    }
    let held = partial.message.len() + payload.len();
    check_size(partial.handed_bytes + held as u64, link.message_bytes_max)?;
    partial.settled |= transfer.settled.unwrap_or(false) || transfer.aborted;
    partial.rcv_settle_mode = partial.rcv_settle_mode.or(transfer.rcv_settle_mode);
    let is_handed = was_handed || (link.is_large && transfer.more && held > LARGE_MESSAGE_BYTES);
    let bytes = match (was_handed, is_handed) {
        (true, _) => Cow::Borrowed(payload),
        (false, is_handed) => {
            partial.message.extend_from_slice(payload);
            if is_handed { Cow::Owned(core::mem::take(&mut partial.message)) } else { Cow::Borrowed(&[][..]) }
        }
    };
    partial.handed_bytes += bytes.len() as u64;
    if transfer.more && !transfer.aborted {
        link.partial = Some(partial);
        return if is_handed { part(bytes, Then::More) } else { Ok(None) };
    }
    if !partial.resumed {
        link.check_settled(partial.settled, partial.rcv_settle_mode)?;
    }
    let delivery = Delivery {
        channel,
        handle,
        delivery_id: partial.delivery_id,
        tag: Cow::Owned(partial.tag),
        message_format: partial.message_format,
        settled: partial.settled,
        rcv_settle_mode: partial.rcv_settle_mode,
        state: transfer.state.map(Box::new),
        batchable: transfer.batchable,
        resumed: partial.resumed,
        message: Cow::Owned(partial.message),
    };
    if is_handed { part(bytes, Then::End(Box::new(delivery))) } else { Ok(Some(Event::Delivery(delivery))) }
}

fn check_size(bytes: u64, bytes_max: u64) -> Result<(), Wrong> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err((
        Condition::MessageSizeExceeded,
        format!("message size ({bytes} bytes) > maximum ({bytes_max} bytes)"),
    ))
}
