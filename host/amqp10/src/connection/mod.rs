//! The server's side of a connection (sections 2.4 to 2.6): login, open, sessions, links, deliveries, closing.
//!
//! A caller does three things in turn:
//! 1. it gives what came from the socket to [`Connection::next`] until that yields no event;
//! 2. it answers events, at once or later: [`Connection::sasl`], [`Connection::opened`], [`Connection::attached`],
//!    [`Connection::grant`], [`Connection::deliver`], [`Connection::dispose`] and their like;
//! 3. it sends what is in [`Connection::output`], and drops the socket once [`Connection::is_closed`].
//!
//! ```text
//! SaslHeader -> Sasl* -> AmqpHeader -> Open -> Opening* -> Running -> Closing -> Closed
//!                             (* waits for the caller's answer, and reads nothing meanwhile)
//! ```
//! Before the login an error ends in silence. Clients need not wait for answers: what follows lies in the bytes until
//! it is its turn, so open, begin, attach and flow may all come with the first chunk (section 2.4.1).
//!
//! Both sides use the channels and handles that the client chose. Which deliveries are unsettled is the caller's to
//! know; here are the rules of windows, credit, numbers and states.
//!
//! The phases before `Running` are in `handshake`, the frames of an open connection in `running`, what is sent by the
//! caller's wish in `sending`; `session` and `link` are what their windows and credits come to.

mod event;
mod failure;
mod handshake;
mod large;
mod link;
mod running;
mod sending;
mod session;

pub use event::{Attached, ConnectionConfig, Delivery, Event, LARGE_MESSAGE_BYTES, Outgoing, Part, Then};
pub use large::Sent;
pub use link::LINK_NAME_BYTES_MAX;
pub use sending::NotSent;

use crate::{
    Condition,
    composite::Composite,
    frame::{self, AMQP, Frame},
    performatives::{Close, Detach, End, Error, Performative},
    sasl::Sasl,
};
use alloc::{collections::VecDeque, sync::Arc, vec::Vec};
use failure::{Failure, Scope};
use link::Stage;
use litemap::LiteMap;
use session::Session;

/// With more bytes of deliveries that wait for the windows of their sessions, all together, no delivery is begun.
pub const PENDING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where a connection is.
#[derive(Debug)]
enum Phase {
    SaslHeader,
    Sasl(Sasl),
    AmqpHeader,
    Open,
    Opening,
    Running,
    Closing,
    Closed,
}

/// What one step did with the bytes.
#[allow(clippy::large_enum_variant, reason = "it lives for one step")]
enum Step<'b> {
    /// Nothing: it wants more of them.
    More,
    /// Took so many, silently.
    Took(usize),
    /// Took so many, and this came of it.
    Event(usize, Event<'b>),
}

/// An event that did not come of the bytes at hand.
#[derive(Clone, Copy, Debug)]
enum Notice {
    Credit { channel: u16, handle: u32, echo: bool },
    Window(u16),
    Detached { channel: u16, handle: u32, closed: bool },
    Ended(u16),
    Closed,
}

/// The server's side of one connection.
#[derive(Debug)]
pub struct Connection {
    config: Arc<ConnectionConfig>,
    phase: Phase,
    output: Vec<u8>,
    notices: VecDeque<Notice>,
    sessions: LiteMap<u16, Session>,
    /// There was no frame, so the next one cannot be found.
    is_lost: bool,
    /// The frame at hand is looked at once more, after what it made happen was told.
    is_frame_left: bool,
    /// There may be parts of messages in sessions.
    keeps_parts: bool,
    /// The largest frame that is sent, in bytes.
    frame_bytes_max: u32,
    remote_channel_max: u16,
    remote_idle_time_out_ms: u32,
}

impl Connection {
    /// A connection whose client has said nothing yet.
    #[must_use]
    pub fn new(config: Arc<ConnectionConfig>) -> Self {
        Self {
            config,
            phase: Phase::SaslHeader,
            output: Vec::new(),
            notices: VecDeque::new(),
            sessions: LiteMap::new(),
            is_lost: false,
            is_frame_left: false,
            keeps_parts: false,
            frame_bytes_max: frame::FRAME_BYTES_MIN,
            remote_channel_max: 0,
            remote_idle_time_out_ms: 0,
        }
    }

    /// Takes bytes from the front of `bytes`: how many, and the next event. Without an event it wants more bytes (or
    /// an answer); what it did not take is to be given again, in front of what comes next, and is always less than
    /// one frame but while an answer is waited for.
    ///
    /// What the client does against the protocol is answered here, with the condition that the specification has for
    /// it, and shows as [`Event::Detached`], [`Event::Ended`] or [`Event::Closed`].
    pub fn next<'b>(&mut self, bytes: &'b [u8]) -> (usize, Option<Event<'b>>) {
        let mut consumed = 0;
        loop {
            if let Some(event) = self.notice() {
                return (consumed, Some(event));
            }
            let rest = bytes.get(consumed..).unwrap_or_default();
            match self.step(rest) {
                Step::More => return (consumed, None),
                Step::Took(took) => consumed += took,
                Step::Event(took, event) => return (consumed + took, Some(event)),
            }
        }
    }

    fn notice(&mut self) -> Option<Event<'static>> {
        loop {
            return Some(match self.notices.pop_front()? {
                Notice::Window(channel) => Event::Window { channel },
                Notice::Detached { channel, handle, closed } => {
                    Event::Detached { channel, handle, closed, error: None }
                }
                Notice::Ended(channel) => Event::Ended { channel },
                Notice::Closed => Event::Closed,
                Notice::Credit { channel, handle, echo } => match self.link(channel, handle) {
                    Some(link) => {
                        let (credit, drain) = (link.credit, link.drain);
                        Event::Credit { channel, handle, credit, drain, echo, properties: None }
                    }
                    None => continue,
                },
            });
        }
    }

    fn step<'b>(&mut self, bytes: &'b [u8]) -> Step<'b> {
        match self.phase {
            Phase::SaslHeader => self.on_sasl_header(bytes),
            Phase::Sasl(_) => self.step_sasl(bytes),
            Phase::AmqpHeader => self.on_amqp_header(bytes),
            Phase::Opening => Step::More,
            Phase::Open | Phase::Running | Phase::Closing if !self.is_lost => self.step_frame(bytes),
            Phase::Open | Phase::Running | Phase::Closing | Phase::Closed if bytes.is_empty() => Step::More,
            Phase::Open | Phase::Running | Phase::Closing | Phase::Closed => Step::Took(bytes.len()),
        }
    }

    fn step_frame<'b>(&mut self, bytes: &'b [u8]) -> Step<'b> {
        let frame = match frame::split(bytes, AMQP, self.config.frame_bytes_max) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Step::More,
            Err(error) => {
                self.is_lost = true;
                self.fail(&error.into());
                return Step::Took(0);
            }
        };
        let took = frame.length_bytes;
        let event = match self.phase {
            Phase::Closing => {
                self.on_frame_while_closing(&frame);
                Ok(None)
            }
            _ if frame.body.is_empty() => Ok(None),
            Phase::Open => self.on_open(&frame),
            _ => self.on_frame(&frame),
        };
        match event {
            Ok(Some(event)) => Step::Event(took, event),
            Ok(None) if core::mem::take(&mut self.is_frame_left) => Step::Took(0),
            Ok(None) => Step::Took(took),
            Err(failure) => {
                self.fail(&failure);
                Step::Took(took)
            }
        }
    }

    /// Everything but close is dropped (section 2.4.6, DISCARDING).
    fn on_frame_while_closing(&mut self, frame: &Frame<'_>) {
        if let Ok((Performative::Close(_), _)) = Performative::from_body(frame.body) {
            self.phase = Phase::Closed;
        }
    }

    fn fail(&mut self, failure: &Failure) {
        let error = Error::new(failure.condition, &failure.description);
        match failure.scope {
            Scope::Connection => self.close_with(&error),
            Scope::Session(channel) => self.end_with(channel, Some(error)),
            Scope::Link(channel, handle) => {
                self.detach_with(channel, handle, true, Some(error));
                self.notices.push_back(Notice::Detached { channel, handle, closed: true });
            }
        }
    }

    /// Closes the connection, as when the broker stops. Before open it is cut without a word; if it is over already
    /// nothing happens.
    pub fn close(&mut self, condition: Condition, description: &str) {
        self.close_with(&Error::new(condition, description));
    }

    fn close_with(&mut self, error: &Error<'_>) {
        match self.phase {
            Phase::Closing | Phase::Closed => return,
            Phase::SaslHeader | Phase::Sasl(_) | Phase::AmqpHeader => {
                return self.end_connection(Phase::Closed);
            }
            // Nothing comes before open (section 2.4.1).
            Phase::Open | Phase::Opening => self.put_open(),
            Phase::Running => {}
        }
        self.put_with_error(0, Some(*error), |error| Close { error });
        self.end_connection(Phase::Closing);
    }

    /// All sessions go; the caller is told once.
    fn end_connection(&mut self, phase: Phase) {
        self.collect_sasl();
        self.phase = phase;
        self.sessions.clear();
        self.notices.clear();
        self.notices.push_back(Notice::Closed);
    }

    /// Ends a session because of an error. Nothing happens if it is not there or over already.
    pub fn end_session(&mut self, channel: u16, condition: Condition, description: &str) {
        self.end_with(channel, Some(Error::new(condition, description)));
    }

    fn end_with(&mut self, channel: u16, error: Option<Error<'_>>) {
        if let Some(session) = self.sessions.get_mut(&channel).filter(|session| !session.is_ending) {
            session.is_ending = true;
            session.links.clear();
            session.drop_pending();
            self.put_with_error(channel, error, |error| End { error });
            self.notices.push_back(Notice::Ended(channel));
        }
    }

    /// Detaches a link. The client's detach is awaited, and all else that it sends is dropped.
    fn detach_with(&mut self, channel: u16, handle: u32, closed: bool, error: Option<Error<'_>>) {
        let session = self.sessions.get_mut(&channel).filter(|session| !session.is_ending);
        let Some(session) = session else { return };
        let Some(link) = session.links.get_mut(&handle) else { return };
        if link.stage == Stage::Detaching {
            return;
        }
        let stage = link.stage;
        link.stage = Stage::Detaching;
        link.partial = None;
        if let Stage::Attaching { detached } = stage {
            let refusal = sending::refusal(link, handle);
            if !frame::put_within(&mut self.output, channel, &refusal, self.frame_bytes_max) {
                self.end_too_small(channel);
                return;
            }
            if detached.is_some() {
                session.links.remove(&handle);
            }
        }
        self.drop_pending_of(channel, handle);
        self.put_with_error(channel, error, |error| Detach { handle, closed, error });
    }

    /// A link is detached: what is left of a delivery on it and waits for the session's window is not sent any more.
    fn drop_pending_of(&mut self, channel: u16, handle: u32) {
        let session = self.sessions.get_mut(&channel);
        if session.is_some_and(|session| session.drop_pending_of(handle)) {
            self.notices.push_back(Notice::Window(channel));
        }
    }

    /// What has to be said in a session does not fit the client's frames.
    fn end_too_small(&mut self, channel: u16) {
        let error = Error::new(Condition::FrameSizeTooSmall, "an attach does not fit max-frame-size");
        self.end_with(channel, Some(error));
    }

    /// Puts what ends something. Where the error does not fit the client's frames, its condition alone does.
    fn put_with_error<'e, C: Composite<'e>>(
        &mut self,
        channel: u16,
        error: Option<Error<'e>>,
        with: impl Fn(Option<Error<'e>>) -> C,
    ) {
        let bytes_max = self.frame_bytes_max;
        if !frame::put_within(&mut self.output, channel, &with(error), bytes_max) {
            let short = error.map(|error| Error { description: None, info: None, ..error });
            frame::put_performative(&mut self.output, channel, &with(short));
        }
    }

    fn link(&self, channel: u16, handle: u32) -> Option<&link::Link> {
        let session = self.sessions.get(&channel).filter(|session| !session.is_ending)?;
        session.links.get(&handle).filter(|link| link.stage == Stage::Attached)
    }

    /// The bytes for the socket. The caller takes them out.
    pub fn output(&mut self) -> &mut Vec<u8> {
        self.collect_sasl();
        &mut self.output
    }

    /// How many bytes wait for the socket, without what SASL says.
    #[must_use]
    pub fn output_bytes(&self) -> usize {
        self.output.len()
    }

    /// Whether a delivery can be begun in a session: its window is open, and no more than [`PENDING_BYTES_MAX`] of others
    /// wait for theirs. [`Event::Window`] says when it is again.
    #[must_use]
    pub fn has_window(&self, channel: u16) -> bool {
        let session = self.sessions.get(&channel);
        session.is_some_and(|session| !session.is_ending && session.has_room()) && !self.has_much_pending()
    }

    fn has_much_pending(&self) -> bool {
        let pending_bytes = || self.sessions.values().map(Session::pending_bytes).sum::<usize>();
        self.keeps_parts && pending_bytes() > PENDING_BYTES_MAX
    }

    fn collect_sasl(&mut self) {
        if let Phase::Sasl(sasl) = &mut self.phase {
            self.output.append(sasl.output());
        }
    }

    /// Whether close was sent and the client's is awaited. Everything else that comes is dropped; the caller's clock
    /// says how long to wait.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing)
    }

    /// Whether nothing will be said any more: send the output, then drop the socket.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// The largest frame that is sent, in bytes.
    #[must_use]
    pub fn frame_bytes_max(&self) -> u32 {
        self.frame_bytes_max
    }

    /// After how much silence of this side the client gives up, in milliseconds; 0 is never.
    #[must_use]
    pub fn remote_idle_time_out_ms(&self) -> u32 {
        self.remote_idle_time_out_ms
    }

    /// Puts a frame that says nothing, for a client that would give up otherwise (section 2.4.5). Nothing happens
    /// unless the connection is open.
    pub fn put_empty_frame(&mut self) {
        if matches!(self.phase, Phase::Running) {
            self.output.extend_from_slice(&frame::EMPTY_FRAME);
        }
    }
}
