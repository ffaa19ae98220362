//! An AMQP 0-9-1 connection without its socket: the session's events become calls of the broker,
//! the broker's answers become replies.
//!
//! One file for each class of the protocol; `Connection::handle_event` is the one place that
//! sorts events to them. Refusals become codes in `leveret-amqp091`'s `close` and nowhere else.
//!
//! *Order.* Publishes that come in one read are handed to the broker together; every other method
//! is a cut: what was published before it is dealt with first. While the broker's answer for a
//! publish is pending, or a type is asked about an exchange or a binding, what comes on its channel waits
//! (`held.rs`), and only that. Settlements
//! that follow each other are a batch too: what they reject is dead-lettered before anything else.

mod basic;
mod beside;
mod confirms;
mod connection;
pub mod dead_letter;
mod exchange;
mod held;
mod leaving;
mod permissions;
mod publish;
mod queue;
mod replies;
mod sink;
mod stash;
#[cfg(test)]
mod tests;
mod transaction;

use crate::{
    connection::{ConnectionWake, Forced, LoginCheck, OUTPUT_BYTES_HARD_MAX, OnceWake},
    live::Place,
    store::Pressure,
    tls::Secured,
    wiring::Shared,
};
use held::{ChannelWake, Held, Next, OpenChannel};
use leveret_access::{Identity, Rights};
use leveret_amqp091::{Event, Session, channels::ByChannel};
use leveret_broker::{
    Client, ConnectionId, Publisher, Vhost,
    port::{Router, Wake},
    traffic::ChannelTraffic,
};
use leveret_model::{Name, PublisherIdentity};
use sink::SessionSink;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

pub use stash::StashRoom;

/// How RabbitMQ's API names it.
pub const PROTOCOL: &str = "AMQP 0-9-1";

/// Whether a connection may be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Yes.
    Open,
    /// No: too much waits for answers, or memory is short. A wake follows.
    Paused,
    /// Not for a moment: consumers of what it published are behind. Then [`Connection::release`].
    Slowed,
}

/// The two ends of a connection.
#[derive(Clone, Debug)]
pub struct Ends {
    /// The client's.
    pub peer: SocketAddr,
    /// The broker's.
    pub local: SocketAddr,
    /// Whether with TLS.
    pub with_tls: bool,
    /// What that came to, once it is there.
    pub tls: Option<Arc<Secured>>,
}

/// The broker's side of one client.
pub struct Connection {
    id: ConnectionId,
    ends: Ends,
    peer: IpAddr,
    shared: Arc<Shared>,
    session: Session,
    wake: Arc<ConnectionWake>,
    /// The check of a password that is waited for.
    login: Option<Arc<LoginCheck>>,
    /// The user that the client's certificate names.
    proved: Option<Vec<u8>>,
    /// Who logged in.
    identity: Option<Identity>,
    open: Option<Open>,
    publishing: publish::Publishing,
    confirms: confirms::Confirms,
    /// What waits for answers, by channel.
    held: Held,
    /// Consumers that ended, by channel and tag, whose channels wait for an answer that comes first.
    cancelled: Vec<(u16, Name)>,
    /// A large message that goes out.
    leaving: Option<leaving::Leaving>,
    /// Deliveries stopped for want of room.
    deliveries_wait: bool,
    memory_wake: Arc<OnceWake>,
    store_wake: Arc<OnceWake>,
    /// The client was told that it is blocked.
    blocked: bool,
    /// What came last from the socket and was not used is not whole.
    wants_more_bytes: bool,
}

/// What exists from connection.open on.
struct Open {
    vhost: Arc<Vhost>,
    client: Client,
    publisher: Publisher,
    /// As whom it publishes.
    identity: PublisherIdentity,
    /// What it may do.
    rights: Rights,
    /// It is counted.
    place: Place,
    channels: ByChannel<Channel>,
}

/// What 0-9-1 keeps for a channel beyond what the broker does.
struct Channel {
    /// The queue that an empty name means: the last one declared.
    last_queue: Option<Name>,
    /// The sequence number of the next publish, once confirms are on.
    confirm_next: Option<u64>,
    /// Who waits for the answers to its publishes.
    wake: Arc<ChannelWake>,
    /// Its publishes wait for their commit.
    transaction: Option<transaction::Pending>,
    /// What is counted of it.
    traffic: Arc<ChannelTraffic>,
}

impl Channel {
    fn new(connection: Arc<ConnectionWake>, traffic: Arc<ChannelTraffic>) -> Self {
        Self {
            last_queue: None,
            confirm_next: None,
            wake: Arc::new(ChannelWake::new(connection)),
            transaction: None,
            traffic,
        }
    }

    /// It is gone: nobody waits for the answers to its publishes.
    fn forget(&self, router: &mut dyn Router) {
        let wake: Arc<dyn Wake> = self.wake.clone();
        router.forget(&wake);
    }
}

impl Open {
    fn channel(&mut self, number: u16) -> Option<&mut Channel> {
        self.channels.get_mut(number)
    }
}

impl Connection {
    /// A connection that begins.
    pub fn new(id: u64, ends: Ends, shared: Arc<Shared>, wake: Arc<ConnectionWake>) -> Self {
        let held = Held::new(stash::Share::of(shared.stash.clone()));
        Self {
            id: ConnectionId(id),
            peer: ends.peer.ip(),
            ends,
            session: Session::new(shared.globals.session(&shared.session)),
            shared,
            memory_wake: OnceWake::new(wake.clone()),
            store_wake: OnceWake::new(wake.clone()),
            confirms: confirms::Confirms::new(wake.clone()),
            wake,
            login: None,
            proved: None,
            identity: None,
            open: None,
            publishing: publish::Publishing::default(),
            held,
            cancelled: Vec::new(),
            leaving: None,
            deliveries_wait: false,
            blocked: false,
            wants_more_bytes: false,
        }
    }

    /// So many bytes were read, and so many written. What came before it was open is not counted.
    pub fn count_bytes(&self, received: usize, sent: usize) {
        if let Some(open) = &self.open {
            open.place.about().traffic.count_bytes(received, sent);
        }
    }

    /// TLS is there, before anything else.
    pub fn secured(&mut self, tls: Option<Arc<Secured>>) {
        self.ends.tls = tls;
    }

    /// The client showed a certificate that was verified; `user` is the name in it, if there is one. Before anything
    /// else: from now on EXTERNAL is offered.
    pub fn proved(&mut self, user: Option<Vec<u8>>) {
        self.proved = user;
        let usual = &self.shared.session_with_external;
        self.session = Session::new(self.shared.globals.session(usual));
    }

    /// Uses bytes from the front of `bytes`, until more than `output_bytes_max` wait to be written;
    /// returns how many. What is not used is to be given again, with more behind it, after a wake, or
    /// when there is less to write.
    pub fn handle_bytes(&mut self, bytes: &[u8], output_bytes_max: usize, router: &mut dyn Router) -> usize {
        self.wants_more_bytes = false;
        let used = self.handle(bytes, output_bytes_max, None, router);
        self.handle_held(router);
        used
    }

    /// Whether what [`Self::handle_bytes`] did not use was left because it is not whole.
    pub fn wants_more_bytes(&self) -> bool {
        self.wants_more_bytes
    }

    /// Handles bytes from the socket, or those that a channel had waiting.
    fn handle(
        &mut self,
        bytes: &[u8],
        output_bytes_max: usize,
        waited: Option<u16>,
        router: &mut dyn Router,
    ) -> usize {
        let mut used = 0;
        let mut batch = Vec::new();
        while !self.session.is_closed()
            && self.session.output_bytes() <= output_bytes_max
            && self.leaving.is_none()
            && waited.map_or_else(|| !self.held.is_full(), |number| !self.held.waits(number))
        {
            let rest = bytes.get(used..).unwrap_or_default();
            let looks = self.held.any();
            if looks {
                match self.next_of_held(rest, waited) {
                    Next::Kept(bytes) => {
                        used += bytes;
                        continue;
                    }
                    Next::Wait => break,
                    Next::Settle => {
                        if !batch.is_empty() {
                            self.publish(std::mem::take(&mut batch), router);
                        }
                        used += self.settle_past(rest, router);
                        continue;
                    }
                    Next::Handle => {}
                }
            }
            if !batch.is_empty()
                && (batch.len() == publish::BATCH_MAX || !self.session.continues_publish(rest))
            {
                self.publish(std::mem::take(&mut batch), router);
                continue;
            }
            let (consumed, event) =
                if looks { self.session.next_frame(rest) } else { self.session.next(rest) };
            used += consumed;
            if !dead_letter::settles(event.as_ref()) {
                // Settlements that follow each other are one batch.
                self.end_settling(router);
            }
            match event {
                Some(Event::Publish(publish)) => {
                    if batch.is_empty() {
                        batch = self.publishing.batch();
                    }
                    batch.push(publish);
                }
                Some(event) => {
                    // What came before it counts, also before an error that ends the connection.
                    if !batch.is_empty() {
                        self.publish(std::mem::take(&mut batch), router);
                    }
                    self.handle_event(event, router);
                }
                None if consumed == 0 => {
                    self.wants_more_bytes |= waited.is_none();
                    break;
                }
                None => {}
            }
        }
        if !batch.is_empty() {
            self.publish(batch, router);
        }
        self.end_settling(router);
        used
    }

    /// What becomes of what is next, while something waits or is to.
    fn next_of_held(&mut self, rest: &[u8], waited: Option<u16>) -> Next {
        let channels = self.open.as_ref().map(|open| &open.channels);
        let open = |number| {
            let channel = channels?.get(number)?;
            Some(OpenChannel { wake: channel.wake.clone(), in_transaction: channel.transaction.is_some() })
        };
        if waited.is_none() {
            let next = self.held.next(&self.session, rest, open);
            self.log_dropped();
            next
        } else if self.held.holds_next(&self.session, rest, open) {
            Next::Wait
        } else {
            Next::Handle
        }
    }

    /// Handles what waited on channels that wait no longer.
    fn handle_held(&mut self, router: &mut dyn Router) {
        let was_closing = self.held.is_closing();
        while self.session.output_bytes() <= OUTPUT_BYTES_HARD_MAX
            && !self.session.is_within_frame()
            && let Some(number) = self.held.ready()
        {
            if self.held.take_cut(number) {
                self.session.abandon_content(number);
            }
            let frames = self.held.take_frames(number);
            let used = self.handle(&frames, OUTPUT_BYTES_HARD_MAX, Some(number), router);
            self.held.return_frames(number, frames, used);
            self.settle_late(number, router);
            self.log_dropped();
            if used == 0 && !self.held.waits(number) {
                break;
            }
        }
        if was_closing && !self.held.is_closing() {
            // For the close, which was not used.
            self.wake.wake();
        }
    }

    /// Tells of publishes that were held back until their channel or the connection was closed.
    fn log_dropped(&mut self) {
        let dropped = self.held.take_dropped();
        if dropped > 0 {
            tracing::warn!(
                "{} closed what it had published on while that was held back: {dropped} bytes of frames are dropped",
                self.peer
            );
        }
    }

    fn handle_event(&mut self, event: Event<'_>, router: &mut dyn Router) {
        match event {
            Event::Login(login) => self.on_login(&login),
            Event::Open { vhost } => self.on_open(&vhost),
            Event::ChannelOpened(number) => self.on_channel_opened(number),
            Event::ChannelClosed(number) => self.on_channel_closed(number, router),
            Event::Publish(publish) => self.publish(vec![publish], router),
            Event::Request { channel, method } => self.on_request(channel, method, router),
            // Before close-ok is written: whoever reads it finds the messages back in their queues.
            Event::Closed => self.end(router),
        }
    }

    /// After a wake: what waited may go on.
    pub fn woken(&mut self, router: &mut dyn Router) {
        if self.held.holds_back() {
            self.look_at_pressure();
        }
        self.finish_login();
        self.confirms.settle(&mut self.session);
        self.retry_publishes(router);
        // Also what the session has to say of a channel that was refused.
        self.handle(&[], OUTPUT_BYTES_HARD_MAX, None, router);
        self.handle_held(router);
        self.retry_dead_letters(router);
        self.tell_cancelled();
        self.deliveries_wait = true;
    }

    /// Encodes deliveries until `output_bytes_max` wait for the socket.
    pub fn deliver(&mut self, output_bytes_max: usize, router: &mut dyn Router) {
        if self.open.is_none() && self.leaving.is_none() {
            self.deliveries_wait = false;
            return;
        }
        if self.leaving.is_some() && !self.send_leaving(output_bytes_max, router) {
            self.deliveries_wait = true;
            return;
        }
        let Some(open) = &mut self.open else { return };
        let (session, leaving) = (&mut self.session, &mut self.leaving);
        let mut sink = SessionSink { session, leaving, store: &self.shared.store, output_bytes_max };
        self.deliveries_wait = open.client.deliver(router, &mut sink);
        // Whatever is behind it.
        self.deliveries_wait |= self.leaving.is_some();
    }

    /// Whether [`Self::deliver`] stopped for want of room and there is room again.
    pub fn has_deliveries(&mut self) -> bool {
        self.deliveries_wait && self.output().len() < crate::connection::OUTPUT_BYTES_SOFT_MAX
    }

    /// Whether there is room again to go on with what waited.
    pub fn has_waited(&self) -> bool {
        self.held.any()
            && self.held.ready().is_some()
            && self.session.output_bytes() <= OUTPUT_BYTES_HARD_MAX
            && !self.session.is_within_frame()
    }

    /// Whether to handle what is read. Tells the client when its publishes are held back, and when no more.
    pub fn reading(&mut self) -> Reading {
        if self.session.is_closing() {
            // Nothing of it is taken any more, but the answer to the close.
            return Reading::Open;
        }
        if self.leaving.is_some() || !self.look_at_pressure() || self.held.is_full() {
            return Reading::Paused;
        }
        // What is held back is slow enough.
        let is_slowed = self.publishing.is_slowed() && !self.held.holds_back();
        if is_slowed { Reading::Slowed } else { Reading::Open }
    }

    /// Whether its publishes are held back: then little is to be read at once.
    pub fn holds_back(&self) -> bool {
        self.held.holds_back()
    }

    /// Holds publishes back while memory or the disk is short. False if nothing is to be handled, because the disk is
    /// behind.
    fn look_at_pressure(&mut self) -> bool {
        let mut why = None;
        if self.publishing.has_published() && self.shared.memory.over_watermark() && self.waits_for_memory() {
            why = Some("low on memory");
        } else if self.publishing.writes()
            && let Some(pressure) = self.shared.store.pressure()
            && self.waits_for_store()
        {
            why = match pressure {
                Pressure::Full => Some("low on disk"),
                Pressure::Failing(_) => Some("the disk fails"),
                // It is over in a moment, whatever the client does.
                Pressure::Behind => return false,
            };
        }
        if self.held.hold_back(why.is_some()) {
            // For what waited.
            self.wake.wake();
        }
        self.tell_blocked(why);
        true
    }

    /// The moment of [`Reading::Slowed`] is over.
    pub fn release(&mut self) {
        self.publishing.release();
    }

    /// Sees to it that a wake comes when memory is below its limit; false if it is already.
    fn waits_for_memory(&mut self) -> bool {
        self.memory_wake.wait(|waker| self.shared.memory.wake_when_below(waker))
    }

    /// Sees to it that a wake comes when the store takes messages again; false if it does already.
    fn waits_for_store(&mut self) -> bool {
        self.store_wake.wait(|waker| self.shared.store.wake_when_relieved(waker))
    }

    /// What waits to be written.
    pub fn output(&mut self) -> &mut Vec<u8> {
        match &mut self.leaving {
            Some(leaving) => leaving.wire(),
            None => self.session.output(),
        }
    }

    /// Whether the handshake is over.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether close was sent and is not answered yet.
    pub fn is_closing(&self) -> bool {
        self.session.is_closing()
    }

    /// Whether to drop the socket once the output is written.
    pub fn is_closed(&self) -> bool {
        self.session.is_closed()
    }

    /// Whether the client closed it, and may still send what means nothing any more.
    pub fn is_closed_by_client(&self) -> bool {
        self.session.is_closed_by_client()
    }

    /// The negotiated heartbeat interval, 0 for none.
    pub fn heartbeat_seconds(&self) -> u16 {
        self.session.heartbeat_seconds()
    }

    /// Puts a heartbeat into the output.
    pub fn put_heartbeat(&mut self) {
        self.session.put_heartbeat();
    }

    /// The broker is being stopped: tells the client.
    pub fn stop(&mut self, router: &mut dyn Router) {
        if !self.session.is_closing() {
            self.session.close_connection(
                320,
                "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
            );
            self.end(router);
        }
    }

    /// Somebody wants it to end: tells the client.
    pub fn force_close(&mut self, forced: &Forced, router: &mut dyn Router) {
        if !self.session.is_closing() {
            if forced.with_queues {
                self.cancel_all();
            }
            self.session.close_connection(320, &format!("CONNECTION_FORCED - {}", forced.why));
            // What it wanted counts no more; only the answer to the close is waited for.
            self.end(router);
        }
    }

    /// The socket is gone: nothing can be delivered any more.
    pub fn hang_up(&mut self, router: &mut dyn Router) {
        self.deliveries_wait = false;
        self.leaving = None;
        if let Some(open) = &mut self.open {
            open.client.stop_consuming(router);
        }
    }

    /// Goes on without a socket, after [`Self::hang_up`]: deals with what waited, and with `bytes` that were
    /// read before, as far as that goes; returns how many of them were used. Answers go nowhere.
    pub fn go_on_alone(&mut self, bytes: &[u8], woken: bool, router: &mut dyn Router) -> usize {
        if woken {
            self.woken(router);
        }
        let mut used = 0;
        loop {
            self.session.output().clear();
            self.release();
            let rest = bytes.get(used..).unwrap_or_default();
            if self.reading() != Reading::Open {
                return used;
            }
            let more = self.handle_bytes(rest, OUTPUT_BYTES_HARD_MAX, router);
            used += more;
            let was_full = self.session.output_bytes() > OUTPUT_BYTES_HARD_MAX;
            self.session.output().clear();
            if more == 0 && !was_full {
                return used;
            }
        }
    }

    /// Whether something that came whole is not dealt with yet: it waits for an answer, or for memory, as
    /// what is `left` of the bytes that were read.
    pub fn has_unfinished(&mut self, left: &[u8]) -> bool {
        self.open.is_some()
            && !self.session.is_closed()
            && (self.held.has_whole() || !left.is_empty() && self.reading() == Reading::Paused)
    }

    /// The connection is over: gives back what the client held.
    pub fn end(&mut self, router: &mut dyn Router) {
        self.held.end();
        self.end_publishing();
        if let Some(mut open) = self.open.take() {
            open.channels.values().for_each(|channel| channel.forget(router));
            let wake: Arc<dyn Wake> = self.wake.clone();
            router.forget(&wake);
            open.client.close(router);
        }
    }
}
