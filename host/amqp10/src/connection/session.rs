//! A session: the windows of its transfers (section 2.5.6), and its links.

use super::link::Link;
use crate::{
    frame,
    performatives::{Begin, Flow},
};
use alloc::vec::Vec;
use litemap::LiteMap;

/// How many transfers this side says that it may send: as many as the other side takes.
const OUTGOING_WINDOW: u32 = u32::MAX;

/// `later` comes after `earlier`, or is the same: serial numbers (RFC 1982).
pub(super) fn is_not_before(later: u32, earlier: u32) -> bool {
    later.wrapping_sub(earlier).cast_signed() >= 0
}

/// The numbers of the deliveries that come.
#[derive(Debug, Default)]
pub(super) struct DeliveryIds {
    last: Option<u32>,
}

impl DeliveryIds {
    /// A new delivery has this number; false if it is not after the last one.
    pub(super) fn on_new(&mut self, delivery_id: u32) -> bool {
        let is_after = |last| delivery_id != last && is_not_before(delivery_id, last);
        let is_next = self.last.is_none_or(is_after);
        self.last = Some(delivery_id);
        is_next
    }
}

/// One session, as this side sees it. Both sides use the same channel.
#[derive(Debug)]
pub(super) struct Session {
    /// End was sent because of an error; all else that comes is dropped.
    pub(super) is_ending: bool,
    pub(super) links: LiteMap<u32, Link>,
    pub(super) delivery_ids: DeliveryIds,
    /// The highest handle that the client takes.
    pub(super) remote_handle_max: u32,
    next_incoming_id: u32,
    incoming_window: u32,
    incoming_window_max: u32,
    next_outgoing_id: u32,
    remote_incoming_window: u32,
    next_delivery_id: u32,
    /// Transfers that the window has no room for yet, each a whole frame: what is left of one delivery, for no other is
    /// begun before they went.
    pending: Vec<u8>,
    /// The link of that delivery.
    pending_handle: u32,
}

impl Session {
    pub(super) fn new(begin: &Begin<'_>, incoming_window_max: u32) -> Self {
        Self {
            is_ending: false,
            links: LiteMap::new(),
            delivery_ids: DeliveryIds::default(),
            remote_handle_max: begin.handle_max,
            next_incoming_id: begin.next_outgoing_id,
            incoming_window: incoming_window_max,
            incoming_window_max,
            next_outgoing_id: 0,
            remote_incoming_window: begin.incoming_window,
            next_delivery_id: 0,
            pending: Vec::new(),
            pending_handle: 0,
        }
    }

    /// The answer to begin, without what the configuration says.
    pub(super) fn begin(&self, remote_channel: u16) -> Begin<'static> {
        Begin {
            remote_channel: Some(remote_channel),
            next_outgoing_id: self.next_outgoing_id,
            incoming_window: self.incoming_window,
            outgoing_window: OUTGOING_WINDOW,
            ..Begin::default()
        }
    }

    /// A flow with the state of the session.
    pub(super) fn flow(&self) -> Flow<'static> {
        Flow {
            next_incoming_id: Some(self.next_incoming_id),
            incoming_window: self.incoming_window,
            next_outgoing_id: self.next_outgoing_id,
            outgoing_window: OUTGOING_WINDOW,
            ..Flow::default()
        }
    }

    /// A transfer came; false if there was no room for it.
    pub(super) fn on_transfer(&mut self) -> bool {
        let Some(window) = self.incoming_window.checked_sub(1) else { return false };
        self.incoming_window = window;
        self.next_incoming_id = self.next_incoming_id.wrapping_add(1);
        true
    }

    /// Whether the client is to be told of a window that was renewed. It was used to the half.
    pub(super) fn renew_window(&mut self) -> bool {
        let is_used = self.incoming_window <= self.incoming_window_max / 2;
        if is_used {
            self.incoming_window = self.incoming_window_max;
        }
        is_used
    }

    /// What a flow says of the session; false if it expects a transfer that was never sent. Frames that were waiting
    /// go out.
    pub(super) fn on_flow(&mut self, flow: &Flow<'_>, out: &mut Vec<u8>) -> bool {
        // Without it, none of our transfers has come: the first has the number 0.
        let expected = flow.next_incoming_id.unwrap_or(0);
        if !is_not_before(self.next_outgoing_id, expected) {
            return false;
        }
        let under_way = self.next_outgoing_id.wrapping_sub(expected);
        self.remote_incoming_window = flow.incoming_window.saturating_sub(under_way);
        self.next_incoming_id = flow.next_outgoing_id;
        self.send_pending(out);
        true
    }

    /// Whether a delivery could be begun.
    pub(super) fn has_room(&self) -> bool {
        self.pending.is_empty() && self.remote_incoming_window > 0
    }

    /// How many bytes of transfers wait for the window.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// What waits for the window is not sent any more.
    pub(super) fn drop_pending(&mut self) {
        self.pending = Vec::new();
    }

    /// The same, if it is of that link; whether it was.
    pub(super) fn drop_pending_of(&mut self, handle: u32) -> bool {
        let is_of_link = !self.pending.is_empty() && self.pending_handle == handle;
        if is_of_link {
            self.drop_pending();
        }
        is_of_link
    }

    /// How many bytes there are of deliveries that have not come whole.
    pub(super) fn partial_bytes(&self) -> usize {
        let partials = self.links.values().filter_map(|link| link.partial.as_ref());
        partials.map(|partial| partial.message.len()).sum()
    }

    /// The number of a new delivery.
    pub(super) fn take_delivery_id(&mut self) -> u32 {
        let delivery_id = self.next_delivery_id;
        self.next_delivery_id = delivery_id.wrapping_add(1);
        delivery_id
    }

    /// So many transfers of a link were put to the end of `out`, from `start` on. What the window has no room for waits.
    pub(super) fn on_sent(&mut self, out: &mut Vec<u8>, start: usize, transfers: u32, handle: u32) {
        if self.pending.is_empty() && transfers <= self.remote_incoming_window {
            self.remote_incoming_window -= transfers;
            self.next_outgoing_id = self.next_outgoing_id.wrapping_add(transfers);
            return;
        }
        self.pending.extend_from_slice(out.get(start..).unwrap_or_default());
        self.pending_handle = handle;
        out.truncate(start);
        self.send_pending(out);
    }

    fn send_pending(&mut self, out: &mut Vec<u8>) {
        let mut sent = 0;
        while self.remote_incoming_window > 0 {
            let rest = self.pending.get(sent..).unwrap_or_default();
            let Ok(Some(frame)) = frame::split(rest, frame::AMQP, u32::MAX) else { break };
            out.extend_from_slice(rest.get(..frame.length_bytes).unwrap_or_default());
            sent += frame.length_bytes;
            self.remote_incoming_window -= 1;
            self.next_outgoing_id = self.next_outgoing_id.wrapping_add(1);
        }
        self.pending.drain(..sent);
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
    }
}
