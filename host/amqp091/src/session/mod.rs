//! The server's side of a connection: handshake, channels, content, closing.
//!
//! A caller does three things in turn:
//! 1. it gives what came from the socket to [`Session::next`] until that yields no event;
//! 2. it answers events, at once or later: [`Session::authenticated`], [`Session::opened`],
//!    [`Session::reply`], [`Session::refuse`], [`Session::deliver`];
//! 3. it sends what is in [`Session::output`], and drops the socket once [`Session::is_closed`].
//!
//! ```text
//! ProtocolHeader -> StartOk -> Login* -> TuneOk -> Open -> Vhost* -> Running -> Closing -> Closed
//!                                (* waits for the caller's answer, and reads nothing meanwhile)
//! ```
//! Before the login an error ends in silence, as with RabbitMQ: a stranger is told nothing.
//!
//! The phases before `Running` are in `handshake`, the frames of an open connection in `running`,
//! the short ways of what comes most in `short`, what callers see before in `ahead`.

mod ahead;
mod event;
mod handshake;
mod running;
mod short;
#[cfg(test)]
mod tests;

pub use ahead::{FrameAhead, Matter, frame_bytes, matter_of};
pub use event::{ClientProperties, Event, Login, Mechanism, Publish, SessionConfig};

use crate::{
    Method,
    channels::ByChannel,
    close::{Failure, ReplyCode, reply_code, reply_text},
    content::Slot,
    delivery::{self, Delivery},
    frame::{self, Frame, FrameHeader},
};
use alloc::{
    collections::VecDeque,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use leveret_model::{MessageView, Refusal};

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    ProtocolHeader,
    StartOk,
    Login,
    TuneOk,
    Open,
    Vhost,
    Running,
    Closing,
    Closed,
}

/// What one step did with the bytes.
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
    ChannelClosed(u16),
    Closed,
}

/// A body frame of which not everything has come.
#[derive(Clone, Copy, Debug)]
struct BodyFrame {
    channel: u16,
    /// Payload that is still to come; then the end octet.
    left_bytes: usize,
    /// Where its payload begins in the assembled body.
    start: usize,
}

/// The server's side of one connection.
#[derive(Debug)]
pub struct Session {
    config: Arc<SessionConfig>,
    phase: Phase,
    output: Vec<u8>,
    notices: VecDeque<Notice>,
    channels: ByChannel<Slot>,
    body_frame: Option<BodyFrame>,
    /// A frame was so large that the next one cannot be found.
    lost: bool,
    /// The client sent close, and not the server.
    client_closed: bool,
    frame_bytes_max: u32,
    channel_max: u16,
    heartbeat_seconds: u16,
    /// The most payload of a frame that is taken, in bytes.
    payload_bytes_max: usize,
    /// The longest body that one frame may hold whole, in bytes.
    body_in_frame_bytes_max: u64,
    client: ClientProperties,
    /// The mechanism of start-ok, as the client named it.
    mechanism: String,
}

impl Session {
    /// A session whose client has said nothing yet.
    #[must_use]
    pub fn new(config: Arc<SessionConfig>) -> Self {
        let (channel_max, heartbeat_seconds) = (config.channel_max, config.heartbeat_seconds);
        let mut session = Self {
            config,
            phase: Phase::ProtocolHeader,
            output: Vec::new(),
            notices: VecDeque::new(),
            channels: ByChannel::default(),
            body_frame: None,
            lost: false,
            client_closed: false,
            frame_bytes_max: 0,
            channel_max,
            heartbeat_seconds,
            payload_bytes_max: 0,
            body_in_frame_bytes_max: 0,
            client: ClientProperties::default(),
            mechanism: String::new(),
        };
        session.set_frame_bytes_max(frame::FRAME_BYTES_MIN);
        session
    }

    /// Takes bytes from the front of `bytes`: how many, and the next event. Without an event it
    /// wants more bytes (or an answer); what it did not take is to be given again, in front of
    /// what comes next, and is always less than one method or header frame.
    ///
    /// What the client does against the protocol is answered here, with the code that the
    /// specification and RabbitMQ have for it, and shows as [`Event::ChannelClosed`] or
    /// [`Event::Closed`].
    pub fn next<'b>(&mut self, bytes: &'b [u8]) -> (usize, Option<Event<'b>>) {
        self.advance::<false>(bytes)
    }

    /// The same, but for no more than one frame, or a part of one, of which nothing comes: for callers who look at each
    /// before it is taken ([`Self::look_ahead`]). Some frames yield no event, heartbeats for instance, and what is behind
    /// them may have to wait.
    pub fn next_frame<'b>(&mut self, bytes: &'b [u8]) -> (usize, Option<Event<'b>>) {
        self.advance::<true>(bytes)
    }

    #[inline]
    fn advance<'b, const ONE: bool>(&mut self, bytes: &'b [u8]) -> (usize, Option<Event<'b>>) {
        let mut consumed = 0;
        loop {
            if let Some(notice) = self.notices.pop_front() {
                let event = match notice {
                    Notice::ChannelClosed(channel) => Event::ChannelClosed(channel),
                    Notice::Closed => Event::Closed,
                };
                return (consumed, Some(event));
            }
            let rest = bytes.get(consumed..).unwrap_or_default();
            if self.phase == Phase::Running && self.body_frame.is_none() {
                if let Some((took, publish)) = self.whole_publish(rest) {
                    return (consumed + took, Some(Event::Publish(publish)));
                }
                if let Some((took, ack)) = self.whole_ack(rest) {
                    return (consumed + took, Some(ack));
                }
            }
            match self.step(rest) {
                Ok(Step::More) => return (consumed, None),
                Ok(Step::Took(took)) => {
                    consumed += took;
                    // What follows from the frame comes with it.
                    if ONE && self.notices.is_empty() {
                        return (consumed, None);
                    }
                }
                Ok(Step::Event(took, event)) => return (consumed + took, Some(event)),
                Err(failure) => {
                    self.fail(&failure);
                    consumed += self.drop_frame(rest);
                }
            }
        }
    }

    fn step<'b>(&mut self, bytes: &'b [u8]) -> Result<Step<'b>, Failure> {
        match self.phase {
            Phase::ProtocolHeader => Ok(self.on_protocol_header(bytes)),
            Phase::StartOk | Phase::TuneOk | Phase::Open => self.step_handshake(bytes),
            Phase::Login | Phase::Vhost => Ok(Step::More),
            Phase::Running => self.step_running(bytes),
            Phase::Closing => Ok(self.step_closing(bytes)),
            Phase::Closed if bytes.is_empty() => Ok(Step::More),
            Phase::Closed => Ok(Step::Took(bytes.len())),
        }
    }

    /// A whole frame at the front of `bytes`, with its end octet checked, if it is there.
    fn frame<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<Frame<'b>>, Failure> {
        let Some(header) = FrameHeader::read(bytes) else {
            return Ok(None);
        };
        self.check_payload_bytes(header)?;
        match header.frame(bytes) {
            Some(frame) if frame.end != frame::END => Err(bad_end(frame.kind, frame.payload, frame.end)),
            whole_or_none => Ok(whole_or_none),
        }
    }

    fn check_payload_bytes(&mut self, header: FrameHeader) -> Result<(), Failure> {
        if header.payload_bytes as usize <= self.payload_bytes_max {
            return Ok(());
        }
        self.lost = true;
        let allowed = frame::payload_bytes_max(self.frame_bytes_max);
        let what = format!("{{frame_too_large,{},{allowed}}}", header.payload_bytes);
        Err(Failure::frame(header.kind, &[], &what))
    }

    /// The bytes for the socket. The caller takes them out.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// How many bytes wait in [`Self::output`].
    #[must_use]
    pub fn output_bytes(&self) -> usize {
        self.output.len()
    }

    /// Whether close was sent and close-ok is awaited. Everything else that comes is dropped; the
    /// caller's clock says how long to wait.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// Whether nothing will be said any more: send the output, then drop the socket.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether it is over because the client wanted that. Such a client closes the socket itself, and may send
    /// until then.
    #[must_use]
    pub fn is_closed_by_client(&self) -> bool {
        self.is_closed() && self.client_closed
    }

    /// The negotiated heartbeat, in seconds; 0 is none. A peer that was silent for twice as long
    /// is gone.
    #[must_use]
    pub fn heartbeat_seconds(&self) -> u16 {
        self.heartbeat_seconds
    }

    /// The negotiated frame-max, in bytes.
    #[must_use]
    pub fn frame_bytes_max(&self) -> u32 {
        self.frame_bytes_max
    }

    /// The negotiated channel-max.
    #[must_use]
    pub fn channel_max(&self) -> u16 {
        self.channel_max
    }

    /// The mechanism by which the client logged in, as it named it; empty before that.
    #[must_use]
    pub fn mechanism(&self) -> &str {
        &self.mechanism
    }

    /// What the client said of itself; empty before the login.
    #[must_use]
    pub fn client(&self) -> &ClientProperties {
        &self.client
    }

    /// Whether messages and replies can be sent on a channel.
    #[must_use]
    #[inline]
    pub fn is_channel_open(&self, channel: u16) -> bool {
        self.channels.get(channel).is_some_and(Slot::is_open)
    }

    /// Puts a heartbeat, unless the connection is not negotiated yet or is over.
    pub fn put_heartbeat(&mut self) {
        if matches!(self.phase, Phase::Open | Phase::Vhost | Phase::Running) {
            self.output.extend_from_slice(&frame::HEARTBEAT_FRAME);
        }
    }

    /// Answers a request: any method of a server without content. Dropped if the channel is not
    /// open any more. Channel 0 carries connection.blocked and unblocked.
    pub fn reply(&mut self, channel: u16, reply: Method<'_>) {
        if self.is_channel_open(channel) || (channel == 0 && self.phase == Phase::Running) {
            frame::put_method(&mut self.output, channel, &reply);
        }
    }

    /// Answers a request with a refusal: closes the channel, or the connection where the code asks
    /// for it. `on`: class and number of the failing method. Dropped if the channel is not open
    /// any more.
    pub fn refuse(&mut self, channel: u16, refusal: &Refusal, on: (u16, u16)) {
        if self.is_channel_open(channel) {
            self.close_for(channel, reply_code(refusal), &refusal.to_string(), on);
        }
    }

    fn close_for(&mut self, channel: u16, code: ReplyCode, explanation: &str, on: (u16, u16)) {
        if !code.is_soft() {
            self.close_with(code, explanation, on);
            return;
        }
        let text = reply_text(code, explanation);
        let close = Method::ChannelClose {
            reply_code: code.number(),
            reply_text: text.as_bytes(),
            class_id: on.0,
            method_id: on.1,
        };
        frame::put_method(&mut self.output, channel, &close);
        if let Some(slot) = self.channels.get_mut(channel) {
            *slot = Slot::Closing;
        }
        self.notices.push_back(Notice::ChannelClosed(channel));
    }

    /// Closes the connection, as when the broker stops (320). Before the login it is cut without a
    /// word; if it is over already nothing happens. `text` is the whole reply text.
    pub fn close_connection(&mut self, code: u16, text: &str) {
        self.close_with_text(code, text, (0, 0));
    }

    fn fail(&mut self, failure: &Failure) {
        self.close_with(failure.code, &failure.explanation, failure.on);
    }

    fn close_with(&mut self, code: ReplyCode, explanation: &str, on: (u16, u16)) {
        self.close_with_text(code.number(), &reply_text(code, explanation), on);
    }

    fn close_with_text(&mut self, code: u16, text: &str, on: (u16, u16)) {
        match self.phase {
            Phase::Closing | Phase::Closed => {}
            Phase::ProtocolHeader | Phase::StartOk | Phase::Login => self.end(Phase::Closed),
            Phase::TuneOk | Phase::Open | Phase::Vhost | Phase::Running => {
                self.put_connection_close(code, text, on);
                self.end(Phase::Closing);
            }
        }
    }

    fn put_connection_close(&mut self, code: u16, text: &str, on: (u16, u16)) {
        let close = Method::ConnectionClose {
            reply_code: code,
            reply_text: text.as_bytes(),
            class_id: on.0,
            method_id: on.1,
        };
        frame::put_method(&mut self.output, 0, &close);
    }

    /// All channels go; the caller is told once.
    fn end(&mut self, phase: Phase) {
        self.phase = phase;
        self.channels = ByChannel::default();
        self.notices.clear();
        self.notices.push_back(Notice::Closed);
    }

    /// Puts a delivery to a consumer; dropped if the channel is not open any more.
    #[inline]
    pub fn deliver(
        &mut self,
        channel: u16,
        consumer_tag: &[u8],
        delivery_tag: u64,
        redelivered: bool,
        message: &MessageView<'_>,
    ) {
        if self.is_channel_open(channel) {
            let delivery = Delivery { consumer_tag, delivery_tag, redelivered };
            delivery::put_deliver(&mut self.output, channel, &delivery, message, self.frame_bytes_max);
        }
    }

    /// Answers basic.get with a message; dropped if the channel is not open any more.
    /// `message_count`: how many are left in the queue.
    pub fn get_ok(
        &mut self,
        channel: u16,
        delivery_tag: u64,
        redelivered: bool,
        message_count: u32,
        message: &MessageView<'_>,
    ) {
        if self.is_channel_open(channel) {
            let (out, frame_max) = (&mut self.output, self.frame_bytes_max);
            delivery::put_get_ok(out, channel, delivery_tag, redelivered, message_count, message, frame_max);
        }
    }

    /// Begins a delivery whose body, of so many bytes, follows ([`Self::put_body`]). False if the channel is not open any
    /// more: then nothing does.
    pub fn begin_delivery(
        &mut self,
        channel: u16,
        delivery: &Delivery<'_>,
        message: &MessageView<'_>,
        body_bytes: u64,
    ) -> bool {
        let is_open = self.is_channel_open(channel);
        if is_open {
            let (out, frame_max) = (&mut self.output, self.frame_bytes_max);
            delivery::put_deliver_head(out, channel, delivery, (message, body_bytes), frame_max);
        }
        is_open
    }

    /// The same for the answer to basic.get; `told`: its number, whether it was delivered before, how many are left.
    pub fn begin_get_ok(
        &mut self,
        channel: u16,
        told: (u64, bool, u32),
        message: &MessageView<'_>,
        body_bytes: u64,
    ) -> bool {
        let is_open = self.is_channel_open(channel);
        if is_open {
            let (out, frame_max) = (&mut self.output, self.frame_bytes_max);
            delivery::put_get_ok_head(out, channel, told, (message, body_bytes), frame_max);
        }
        is_open
    }

    /// Appends a part of a body to `out`, where what was begun is; what else the session says is to come behind the last
    /// part.
    pub fn put_body(&self, out: &mut Vec<u8>, channel: u16, part: &[u8]) {
        frame::put_body(out, channel, part, self.frame_bytes_max);
    }

    /// Gives a message back, as with 312 `NO_ROUTE`; dropped if the channel is not open any more.
    pub fn return_message(&mut self, channel: u16, code: u16, text: &str, message: &MessageView<'_>) {
        if self.is_channel_open(channel) {
            delivery::put_return(&mut self.output, channel, code, text, message, self.frame_bytes_max);
        }
    }

    /// Confirms a publish, or all up to it; dropped if the channel is not open any more.
    pub fn ack(&mut self, channel: u16, delivery_tag: u64, multiple: bool) {
        self.reply(channel, Method::BasicAck { delivery_tag, multiple });
    }

    /// Tells that a publish was not taken, or all up to it that are not confirmed; dropped if the
    /// channel is not open any more.
    pub fn nack(&mut self, channel: u16, delivery_tag: u64, multiple: bool) {
        self.reply(channel, Method::BasicNack { delivery_tag, multiple, requeue: false });
    }

    fn set_frame_bytes_max(&mut self, frame_bytes_max: u32) {
        self.frame_bytes_max = frame_bytes_max;
        // RabbitMQ takes eight bytes more than it allows, and some clients count on that.
        self.payload_bytes_max = usize::try_from(frame_bytes_max).unwrap_or(usize::MAX);
        self.body_in_frame_bytes_max = self.config.message_body_bytes_max.min(u64::from(frame_bytes_max));
    }
}

fn bad_end(kind: u8, payload: &[u8], end: u8) -> Failure {
    Failure::frame(kind, payload, &format!("{{invalid_frame_end_marker,{end}}}"))
}
