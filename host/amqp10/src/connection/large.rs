//! Deliveries that are sent in parts, as their bytes are at hand: those of a link follow each other, and other links' frames
//! may come in between (section 2.6.14).

use super::{
    Connection, NotSent, Outgoing,
    link::Link,
    sending::{FROM_THE_BEGINNING, acquired},
};
use crate::{
    frame,
    performatives::{Role, Transfer},
};

/// What became of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It was sent.
    Part,
    /// The session's window is shut: the same part is to be sent when it is open ([`super::Event::Window`]).
    NoWindow,
    /// The link is gone, or nothing is being sent on it.
    NoLink,
}

impl Connection {
    /// Begins a delivery whose message has so many bytes, of which `delivery` has the first; its number in the session. What
    /// follows is sent with [`Self::deliver_part`], and until then no other on that link.
    ///
    /// # Errors
    /// As for [`Self::deliver`].
    pub fn begin_delivery(
        &mut self,
        channel: u16,
        handle: u32,
        delivery: &Outgoing<'_>,
        message_bytes: u64,
    ) -> Result<u32, NotSent> {
        self.begin_part(channel, handle, delivery, message_bytes, |transfer| transfer)
    }

    /// The same of a delivery that is acquired in a transaction.
    ///
    /// # Errors
    /// As for [`Self::deliver`].
    pub fn begin_acquired<'t>(
        &mut self,
        channel: u16,
        handle: u32,
        delivery: &Outgoing<'t>,
        message_bytes: u64,
        txn_id: &'t [u8],
    ) -> Result<u32, NotSent> {
        let with = |transfer| Transfer { state: acquired(txn_id), ..transfer };
        self.begin_part(channel, handle, delivery, message_bytes, with)
    }

    /// The same of a delivery that goes on from an earlier attachment: from its first byte, as it says.
    ///
    /// # Errors
    /// As for [`Self::deliver`].
    pub fn begin_resumed(
        &mut self,
        channel: u16,
        handle: u32,
        delivery: &Outgoing<'_>,
        message_bytes: u64,
    ) -> Result<u32, NotSent> {
        let state = Some(FROM_THE_BEGINNING);
        let with = |transfer| Transfer { resume: true, state, ..transfer };
        self.begin_part(channel, handle, delivery, message_bytes, with)
    }

    fn begin_part<'t>(
        &mut self,
        channel: u16,
        handle: u32,
        delivery: &Outgoing<'t>,
        message_bytes: u64,
        with: impl FnOnce(Transfer<'t>) -> Transfer<'t>,
    ) -> Result<u32, NotSent> {
        let bytes_max = self.message_bytes_max(channel, handle);
        if bytes_max > 0 && message_bytes > bytes_max {
            return Err(NotSent::TooLarge { bytes: message_bytes, bytes_max });
        }
        let id = self.send(channel, handle, delivery, true, with)?;
        if let Some(link) = self.sending_link(channel, handle) {
            link.is_sending = true;
        }
        Ok(id)
    }

    /// How many bytes a part may have at most: what fits a frame.
    #[must_use]
    pub fn part_bytes_max(&self) -> usize {
        // The frame's header, and a transfer that has a handle and flags.
        usize::try_from(self.frame_bytes_max).unwrap_or(usize::MAX).saturating_sub(64)
    }

    /// Sends the next part of a delivery that was begun, of at most [`Self::part_bytes_max`] bytes; the last one unless there
    /// is `more`.
    pub fn deliver_part(&mut self, channel: u16, handle: u32, bytes: &[u8], more: bool) -> Sent {
        self.put_part(channel, &Transfer { handle, more, ..Transfer::default() }, bytes)
    }

    /// Gives up a delivery that was begun: the client is to forget it.
    pub fn abort_delivery(&mut self, channel: u16, handle: u32) -> Sent {
        self.put_part(channel, &Transfer { handle, aborted: true, ..Transfer::default() }, &[])
    }

    fn put_part(&mut self, channel: u16, transfer: &Transfer<'_>, bytes: &[u8]) -> Sent {
        let has_window = self.has_window(channel);
        let Some(link) = self.sending_link(channel, transfer.handle).filter(|link| link.is_sending) else {
            return Sent::NoLink;
        };
        if !has_window {
            return Sent::NoWindow;
        }
        link.is_sending = transfer.more;
        let Some(session) = self.sessions.get_mut(&channel) else { return Sent::NoLink };
        let start = self.output.len();
        let (out, frame_bytes_max) = (&mut self.output, self.frame_bytes_max);
        let transfers = frame::put_transfer(out, channel, transfer, &[bytes], frame_bytes_max);
        session.on_sent(out, start, transfers, transfer.handle);
        Sent::Part
    }

    fn sending_link(&mut self, channel: u16, handle: u32) -> Option<&mut Link> {
        self.link_mut(channel, handle, Role::Sender)
    }
}
