//! What is sent by the caller's wish: answers, credit, deliveries, states.

use super::{
    Attached, Connection, ConnectionConfig, Notice, Outgoing,
    link::{Link, Stage},
};
use crate::{
    composite::Fields,
    frame,
    messaging::{DeliveryState, Received, Rejected},
    performatives::{Attach, Detach, Disposition, Error, Flow, Role, Transfer},
    transactions::TransactionalState,
};
use core::fmt;

/// The state of a delivery of which everything is sent again (section 3.4.1).
pub(super) const FROM_THE_BEGINNING: DeliveryState<'static> =
    DeliveryState::Received(Received { section_number: 0, section_offset: 0 });

/// The state of a delivery that is acquired in a transaction.
pub(super) fn acquired(txn_id: &[u8]) -> Option<DeliveryState<'_>> {
    Some(TransactionalState { txn_id, outcome: None }.into())
}

/// Why a delivery was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// There is no such link, or it is not attached for sending, or not any more.
    NoLink,
    /// There is no credit. [`super::Event::Credit`] says when there is.
    NoCredit,
    /// The session's window is shut. [`super::Event::Window`] says when it is open.
    NoWindow,
    /// The client does not take messages so large.
    TooLarge {
        /// How many bytes the message has.
        bytes: u64,
        /// The most that the client takes.
        bytes_max: u64,
    },
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLink => f.write_str("no such link sends"),
            Self::NoCredit => f.write_str("there is no credit"),
            Self::NoWindow => f.write_str("the session's window is shut"),
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "message size ({bytes} bytes) > the client's maximum ({bytes_max} bytes)")
            }
        }
    }
}

impl core::error::Error for NotSent {}

/// An attach that says that there will be no link: without source and target (section 2.6.3).
pub(super) fn refusal(link: &Link, handle: u32) -> Attach<'_> {
    Attach {
        name: &link.name,
        handle,
        role: link.role,
        initial_delivery_count: (link.role == Role::Sender).then_some(link.delivery_count),
        ..Attach::default()
    }
}

impl Connection {
    /// The answer to [`super::Event::Attach`] if the link may be. Where it does not fit the client's frames the session
    /// ends. Nothing happens if it was answered, or its session is over.
    pub fn attached(&mut self, channel: u16, handle: u32, attached: &Attached<'_>) {
        let session = self.sessions.get_mut(&channel).filter(|session| !session.is_ending);
        let Some(session) = session else { return };
        let mut state = session.flow();
        let Some(link) = session.links.get_mut(&handle) else { return };
        let Stage::Attaching { detached } = link.stage else { return };
        link.stage = Stage::Attached;
        link.snd_settle_mode = attached.snd_settle_mode;
        link.rcv_settle_mode = attached.rcv_settle_mode;
        let ConnectionConfig { message_bytes_max, whole_message_bytes_max, .. } = *self.config;
        link.is_large = attached.large && link.role == Role::Receiver;
        link.takes_resumed_only = attached.incomplete_unsettled;
        link.message_bytes_max =
            if link.is_large { message_bytes_max } else { message_bytes_max.min(whole_message_bytes_max) };
        let answer = Attach {
            snd_settle_mode: attached.snd_settle_mode,
            rcv_settle_mode: attached.rcv_settle_mode,
            source: attached.source,
            target: attached.target,
            unsettled: attached.unsettled,
            incomplete_unsettled: attached.incomplete_unsettled,
            max_message_size: (link.role == Role::Receiver).then_some(link.message_bytes_max),
            offered_capabilities: attached.offered_capabilities,
            properties: attached.properties,
            ..refusal(link, handle)
        };
        if !frame::put_within(&mut self.output, channel, &answer, self.frame_bytes_max) {
            self.end_too_small(channel);
            return;
        }
        if let Some(closed) = detached {
            session.links.remove(&handle);
            frame::put_performative(&mut self.output, channel, &Detach { handle, closed, error: None });
            self.notices.push_back(Notice::Detached { channel, handle, closed });
            return;
        }
        let echo = link.is_echo_wanted;
        if link.role == Role::Sender {
            if link.credit > 0 || link.drain || echo {
                self.notices.push_back(Notice::Credit { channel, handle, echo });
            }
        } else if echo {
            link.put_state(handle, &mut state);
            frame::put_performative(&mut self.output, channel, &state);
        }
    }

    /// The answer to [`super::Event::Attach`] if the link may not be: an attach without source and target, and a
    /// detach. Nothing happens if it was answered, or its session is over.
    pub fn attach_refused(&mut self, channel: u16, handle: u32, error: &Error<'_>) {
        let session = self.sessions.get(&channel);
        let stage = session.and_then(|session| session.links.get(&handle)).map(|link| link.stage);
        if let Some(Stage::Attaching { .. }) = stage {
            self.detach_with(channel, handle, true, Some(*error));
        }
    }

    /// Detaches a link, as when its queue is gone. What the client still sends on it is dropped. Nothing happens if it
    /// is not attached.
    pub fn detach(&mut self, channel: u16, handle: u32, closed: bool, error: Option<&Error<'_>>) {
        if self.link(channel, handle).is_some() {
            self.detach_with(channel, handle, closed, error.copied());
        }
    }

    /// Gives a client that sends a credit of so many deliveries from now on; what it has is never made less, for then
    /// what is under way would be too much. Nothing happens if the link is not attached for receiving.
    pub fn grant(&mut self, channel: u16, handle: u32, credit: u32) {
        if let Some(link) = self.link_mut(channel, handle, Role::Receiver) {
            link.credit = link.credit.max(credit);
            link.is_withheld = false;
            self.put_link_flow(channel, handle, None, None);
        }
    }

    /// Takes back what credit a client has for sending on a link (section 2.6.7), until it is given some again. What it
    /// sent before it heard of that comes all the same.
    pub fn withhold(&mut self, channel: u16, handle: u32) {
        if let Some(link) = self.link_mut(channel, handle, Role::Receiver)
            && link.credit_told() > 0
        {
            link.is_withheld = true;
            self.put_link_flow(channel, handle, None, None);
        }
    }

    /// Tells the client the state of a link, and how many messages wait for it, where that is known (section 2.6.7).
    /// Nothing happens if it is not attached for sending.
    pub fn tell(&mut self, channel: u16, handle: u32, available: Option<u32>) {
        if self.link_mut(channel, handle, Role::Sender).is_some() {
            self.put_link_flow(channel, handle, available, None);
        }
    }

    /// Tells the client the state of a link with something more. Nothing happens if it is not attached for sending.
    pub fn tell_state(&mut self, channel: u16, handle: u32, properties: Fields<'_>) {
        if self.link_mut(channel, handle, Role::Sender).is_some() {
            self.put_link_flow(channel, handle, None, Some(properties));
        }
    }

    /// How many more deliveries a client may send that was given credit, or may be sent to it.
    #[must_use]
    pub fn credit(&self, channel: u16, handle: u32) -> u32 {
        self.link(channel, handle).map_or(0, Link::credit_told)
    }

    /// How many deliveries there were on a link since it was attached, either way; modulo 2^32.
    #[must_use]
    pub fn deliveries(&self, channel: u16, handle: u32) -> u32 {
        self.link(channel, handle).map_or(0, |link| link.delivery_count.wrapping_sub(link.first_count))
    }

    /// The largest message that the client takes on a link, in bytes; 0 is any.
    #[must_use]
    pub fn message_bytes_max(&self, channel: u16, handle: u32) -> u64 {
        self.link(channel, handle).map_or(0, |link| link.remote_message_bytes_max)
    }

    /// Sends a delivery; its number in the session. Of one that is larger than the window allows the rest goes out as
    /// the window opens, and until then no other can be sent in the session.
    ///
    /// # Errors
    /// If it cannot be sent now, or at all. Then nothing is.
    pub fn deliver(&mut self, channel: u16, handle: u32, delivery: &Outgoing<'_>) -> Result<u32, NotSent> {
        self.send(channel, handle, delivery, false, |transfer| transfer)
    }

    /// Sends a delivery of an earlier attachment of its link (section 2.6.13), with a new number: its message once more, from
    /// the first byte on, or where it has none the `state` that it has here.
    ///
    /// # Errors
    /// As for [`Self::deliver`].
    pub fn resume(
        &mut self,
        channel: u16,
        handle: u32,
        delivery: &Outgoing<'_>,
        state: Option<DeliveryState<'_>>,
    ) -> Result<u32, NotSent> {
        let state = Some(state.unwrap_or(FROM_THE_BEGINNING));
        self.send(channel, handle, delivery, false, |transfer| Transfer { resume: true, state, ..transfer })
    }

    /// Sends a delivery that is acquired in a transaction (section 4.4.3), as it says.
    ///
    /// # Errors
    /// As for [`Self::deliver`].
    pub fn deliver_acquired<'t>(
        &mut self,
        channel: u16,
        handle: u32,
        delivery: &Outgoing<'t>,
        txn_id: &'t [u8],
    ) -> Result<u32, NotSent> {
        self.send(channel, handle, delivery, false, |transfer| Transfer {
            state: acquired(txn_id),
            ..transfer
        })
    }

    /// Sends a delivery, or the first bytes of one of which `more` come. What else its first transfer says is added by `with`:
    /// most say nothing, which costs nothing so.
    #[inline]
    pub(super) fn send<'t>(
        &mut self,
        channel: u16,
        handle: u32,
        delivery: &Outgoing<'t>,
        more: bool,
        with: impl FnOnce(Transfer<'t>) -> Transfer<'t>,
    ) -> Result<u32, NotSent> {
        let link = self.link(channel, handle).filter(|link| link.role == Role::Sender);
        let link = link.filter(|link| !link.is_sending).ok_or(NotSent::NoLink)?;
        let credit = link.credit.checked_sub(1).ok_or(NotSent::NoCredit)?;
        let bytes = delivery.message.iter().map(|piece| piece.len() as u64).sum();
        let bytes_max = link.remote_message_bytes_max;
        if bytes_max > 0 && bytes > bytes_max {
            return Err(NotSent::TooLarge { bytes, bytes_max });
        }
        let Some(session) = self.sessions.get_mut(&channel) else { return Err(NotSent::NoLink) };
        if !session.has_room() {
            return Err(NotSent::NoWindow);
        }
        if let Some(link) = session.links.get_mut(&handle) {
            link.credit = credit;
            link.delivery_count = link.delivery_count.wrapping_add(1);
        }
        let delivery_id = session.take_delivery_id();
        let transfer = with(Transfer {
            handle,
            delivery_id: Some(delivery_id),
            delivery_tag: Some(delivery.tag),
            message_format: Some(delivery.message_format),
            settled: Some(delivery.settled),
            more,
            ..Transfer::default()
        });
        let start = self.output.len();
        let (out, frame_bytes_max) = (&mut self.output, self.frame_bytes_max);
        let transfers = frame::put_transfer(out, channel, &transfer, delivery.message, frame_bytes_max);
        session.on_sent(out, start, transfers, handle);
        self.keeps_parts |= session.pending_bytes() > 0;
        Ok(delivery_id)
    }

    /// Gives up what credit is left, where the client wants that and there is nothing more to send (section 2.6.7).
    /// It is told how many messages wait all the same, where that is known. Nothing happens if it does not want that.
    pub fn drained(&mut self, channel: u16, handle: u32, available: Option<u32>) {
        if let Some(link) = self.link_mut(channel, handle, Role::Sender).filter(|link| link.drain) {
            link.delivery_count = link.delivery_count.wrapping_add(link.credit);
            link.credit = 0;
            self.put_link_flow(channel, handle, available, None);
        }
    }

    /// Tells the client the state of deliveries, in either direction. Of a rejection that does not fit the client's
    /// frames the condition alone is told. Nothing happens if the session is over.
    pub fn dispose(&mut self, channel: u16, disposition: &Disposition<'_>) {
        if self.sessions.get(&channel).is_none_or(|session| session.is_ending) {
            return;
        }
        if let Some(DeliveryState::Rejected(Rejected { error })) = disposition.state {
            self.put_with_error(channel, error, |error| Disposition {
                state: Some(Rejected { error }.into()),
                ..*disposition
            });
        } else {
            frame::put_performative(&mut self.output, channel, disposition);
        }
    }

    pub(super) fn link_mut(&mut self, channel: u16, handle: u32, role: Role) -> Option<&mut Link> {
        let session = self.sessions.get_mut(&channel).filter(|session| !session.is_ending)?;
        let link = session.links.get_mut(&handle)?;
        (link.stage == Stage::Attached && link.role == role).then_some(link)
    }

    fn put_link_flow(
        &mut self,
        channel: u16,
        handle: u32,
        available: Option<u32>,
        properties: Option<Fields<'_>>,
    ) {
        let Some(session) = self.sessions.get(&channel) else { return };
        let Some(link) = session.links.get(&handle) else { return };
        let mut flow = Flow { available, properties, ..session.flow() };
        link.put_state(handle, &mut flow);
        frame::put_performative(&mut self.output, channel, &flow);
    }
}
