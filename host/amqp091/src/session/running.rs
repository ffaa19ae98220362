//! The frames of an open connection, and of one that is being closed.

use super::{
    BodyFrame, Event, Phase, Publish, Session, Step, bad_end,
    handshake::{decode_method, method_ids},
};
use crate::{
    Method,
    close::{Failure, ReplyCode},
    content::{
        Content, ContentHeader, HeaderFault, NO_BODY, NO_HEADER, NO_METHOD, PUBLISH, Slot, content_due,
    },
    frame::{self, BODY, Frame, FrameHeader, HEADER, HEADER_BYTES, HEARTBEAT, METHOD},
};
use alloc::{borrow::Cow, format};
use core::mem;

const CHANNEL_OPEN: (u16, u16) = (20, 10);
const CHANNEL_CLOSE: (u16, u16) = (20, 40);
const CHANNEL_CLOSE_OK: (u16, u16) = (20, 41);
const CONNECTION_CLOSE: (u16, u16) = (10, 50);
const CONNECTION_CLOSE_OK: (u16, u16) = (10, 51);
/// ack, reject, nack: they may cross a close of their channel.
const ACKNOWLEDGEMENTS: [(u16, u16); 3] = [(60, 80), (60, 90), (60, 120)];

/// How many bytes of bodies that are not whole yet one connection may announce: they are kept in
/// memory until they are whole.
pub(crate) const ANNOUNCED_BODY_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Bodies up to this size are not counted for that: with all channels they come to 128 MiB at most.
const UNCOUNTED_BODY_BYTES_MAX: usize = 64 * 1024;
/// Of how many channels with high numbers something is kept before those are forgotten that are closed.
const HIGH_KEPT_MAX: usize = 4096;

impl Session {
    pub(super) fn step_running<'b>(&mut self, bytes: &'b [u8]) -> Result<Step<'b>, Failure> {
        if let Some(body_frame) = self.body_frame {
            return self.step_body_frame(body_frame, bytes);
        }
        let Some(header) = FrameHeader::read(bytes) else {
            return Ok(Step::More);
        };
        if header.kind == BODY && header.channel != 0 {
            return self.begin_body_frame(header);
        }
        let Some(Frame { kind, channel, payload, length_bytes: took, .. }) = self.frame(bytes)? else {
            return Ok(Step::More);
        };
        match (kind, channel) {
            (METHOD, 0) => self.on_connection_method(payload, took),
            (METHOD, channel) => self.on_channel_method(channel, payload, took),
            (HEADER, channel) if channel != 0 => self.on_content_header(channel, payload, took),
            (HEARTBEAT, 0) if payload.is_empty() => Ok(Step::Took(took)),
            (HEARTBEAT, _) if payload.is_empty() => Err(Failure::unexpected_frame(HEARTBEAT, payload)),
            (HEADER | BODY, _) => Err(Failure::unexpected_frame(kind, payload)),
            (kind, _) => Err(Failure::frame(kind, payload, &"unknown_frame")),
        }
    }

    /// The header of a body frame: 505 if none is due on its channel, 501 if it holds more than is
    /// due. Its payload is taken as it comes, so that nobody has to keep it.
    fn begin_body_frame<'b>(&mut self, header: FrameHeader) -> Result<Step<'b>, Failure> {
        self.check_payload_bytes(header)?;
        let payload_bytes = header.payload_bytes as usize;
        let start = match self.channels.get(header.channel) {
            Some(Slot::AwaitBody(content)) if payload_bytes <= content.missing_bytes() => content.body.len(),
            Some(Slot::AwaitBody(_)) => {
                let text = "content body frame exceeds remaining content size";
                return Err(Failure::new(ReplyCode::FrameError, text, PUBLISH));
            }
            Some(Slot::AwaitHeader(_)) => return Err(content_due(NO_HEADER)),
            Some(Slot::Closing) => 0,
            Some(Slot::Open | Slot::Closed | Slot::Unused) | None => {
                return Err(Failure::new(ReplyCode::UnexpectedFrame, NO_METHOD, (0, 0)));
            }
        };
        self.body_frame = Some(BodyFrame { channel: header.channel, left_bytes: payload_bytes, start });
        Ok(Step::Took(HEADER_BYTES))
    }

    /// More of a body frame's payload, or its end octet: 501 if that is another.
    fn step_body_frame<'b>(&mut self, body_frame: BodyFrame, bytes: &'b [u8]) -> Result<Step<'b>, Failure> {
        let Some(first) = bytes.first() else {
            return Ok(Step::More);
        };
        let mut whole = Slot::Open;
        let slot = self.channels.get_mut(body_frame.channel).unwrap_or(&mut whole);
        if body_frame.left_bytes > 0 {
            let piece = bytes.get(..body_frame.left_bytes).unwrap_or(bytes);
            if let Slot::AwaitBody(content) = slot {
                content.body.extend_from_slice(piece);
            }
            let left_bytes = body_frame.left_bytes - piece.len();
            self.body_frame = Some(BodyFrame { left_bytes, ..body_frame });
            return Ok(Step::Took(piece.len()));
        }
        if *first != frame::END {
            let payload = match slot {
                Slot::AwaitBody(content) => content.body.get(body_frame.start..).unwrap_or_default(),
                _ => &[],
            };
            return Err(bad_end(BODY, payload, *first));
        }
        self.body_frame = None;
        match mem::take(slot) {
            Slot::AwaitBody(content) if content.is_whole() => {
                *slot = Slot::Open;
                Ok(Step::Event(1, assembled(body_frame.channel, *content)))
            }
            other => {
                *slot = other;
                Ok(Step::Took(1))
            }
        }
    }

    /// How many bytes of bodies that are not whole yet were announced on all channels.
    fn announced_bytes(&self) -> usize {
        let announced = self.channels.values().map(|slot| match slot {
            Slot::AwaitBody(content) => content.body_bytes,
            _ => 0,
        });
        announced.fold(0, usize::saturating_add)
    }

    /// A content header: 505 if none is due, 501, 502 or 505 if it makes no sense, 406 on the
    /// channel if the body is larger than is configured, 506 if too many large bodies are under way.
    fn on_content_header<'b>(
        &mut self,
        channel: u16,
        payload: &[u8],
        took: usize,
    ) -> Result<Step<'b>, Failure> {
        let body_bytes_max = self.config.message_body_bytes_max;
        let Some(slot) = self.channels.get_mut(channel) else {
            return Err(Failure::new(ReplyCode::UnexpectedFrame, NO_METHOD, (0, 0)));
        };
        match mem::take(slot) {
            Slot::AwaitHeader(mut content) => match ContentHeader::read(payload, body_bytes_max) {
                Ok(header) => {
                    content.begin_body(&header);
                    if header.body_bytes > UNCOUNTED_BODY_BYTES_MAX {
                        let announced = self.announced_bytes().saturating_add(header.body_bytes);
                        if announced > ANNOUNCED_BODY_BYTES_MAX {
                            let text = format!(
                                "{announced} bytes of bodies are under way at once; the most is {ANNOUNCED_BODY_BYTES_MAX}"
                            );
                            return Err(Failure::new(ReplyCode::ResourceError, text, PUBLISH));
                        }
                    }
                    let Some(slot) = self.channels.get_mut(channel) else {
                        return Err(Failure::new(ReplyCode::UnexpectedFrame, NO_METHOD, (0, 0)));
                    };
                    if content.is_whole() {
                        *slot = Slot::Open;
                        return Ok(Step::Event(took, assembled(channel, *content)));
                    }
                    *slot = Slot::AwaitBody(content);
                }
                Err(HeaderFault::Failure(failure)) => return Err(failure),
                Err(HeaderFault::BodyTooLarge { bytes }) => {
                    let text =
                        format!("message size {bytes} is larger than configured max size {body_bytes_max}");
                    self.close_for(channel, ReplyCode::PreconditionFailed, &text, PUBLISH);
                }
            },
            Slot::AwaitBody(_) => return Err(content_due(NO_BODY)),
            Slot::Closing => *slot = Slot::Closing,
            Slot::Open | Slot::Closed | Slot::Unused => {
                return Err(Failure::new(ReplyCode::UnexpectedFrame, NO_METHOD, (0, 0)));
            }
        }
        Ok(Step::Took(took))
    }

    /// A method on channel 0: close, update-secret; 504 for every other that is known.
    fn on_connection_method<'b>(&mut self, payload: &[u8], took: usize) -> Result<Step<'b>, Failure> {
        let method = decode_method(payload)?;
        match method {
            Method::ConnectionClose { .. } => {
                frame::put_method(&mut self.output, 0, &Method::ConnectionCloseOk {});
                self.client_closed = true;
                self.end(Phase::Closed);
            }
            Method::ConnectionUpdateSecret { .. } => {
                frame::put_method(&mut self.output, 0, &Method::ConnectionUpdateSecretOk {});
            }
            other => {
                let text = "unexpected method in connection state running";
                return Err(Failure::new(ReplyCode::ChannelError, text, other.ids()));
            }
        }
        Ok(Step::Took(took))
    }

    /// A method on a channel, by what the channel is: 504 before channel.open, 505 within content,
    /// nothing while it is being closed.
    fn on_channel_method<'b>(
        &mut self,
        channel: u16,
        payload: &'b [u8],
        took: usize,
    ) -> Result<Step<'b>, Failure> {
        let (ids, _) = method_ids(payload)?;
        match self.channels.get(channel) {
            Some(Slot::Open) => {
                let method = decode_method(payload)?;
                self.on_open_channel(channel, method, took)
            }
            Some(Slot::AwaitHeader(_)) => Err(content_due(NO_HEADER)),
            Some(Slot::AwaitBody(_)) => Err(content_due(NO_BODY)),
            Some(Slot::Closing) => self.on_closing_channel(channel, ids, took),
            Some(Slot::Closed) if ACKNOWLEDGEMENTS.contains(&ids) => Ok(Step::Took(took)),
            Some(Slot::Closed | Slot::Unused) | None => {
                if matches!(decode_method(payload)?, Method::ChannelOpen {}) {
                    self.on_channel_open(channel, took)
                } else {
                    Err(Failure::new(ReplyCode::ChannelError, "expected 'channel.open'", ids))
                }
            }
        }
    }

    /// channel.open: 530 for one more than the negotiated channel-max, whatever their numbers are.
    fn on_channel_open<'b>(&mut self, channel: u16, took: usize) -> Result<Step<'b>, Failure> {
        let most = self.channel_max;
        let in_use = self.channels.values().filter(|slot| slot.is_open() || matches!(slot, Slot::Closing));
        if in_use.count() >= usize::from(most) {
            let text =
                format!("number of channels opened ({most}) has reached the negotiated channel_max ({most})");
            return Err(Failure::new(ReplyCode::NotAllowed, text, (0, 0)));
        }
        if self.channels.high_count() >= HIGH_KEPT_MAX {
            // That they were open once is not so important.
            self.channels.retain_high(|slot| !matches!(slot, Slot::Closed));
        }
        self.channels.insert(channel, Slot::Open);
        Ok(Step::Event(took, Event::ChannelOpened(channel)))
    }

    /// A method after channel.close was sent: all but close and close-ok are dropped; 504 for
    /// channel.open.
    fn on_closing_channel<'b>(
        &mut self,
        channel: u16,
        ids: (u16, u16),
        took: usize,
    ) -> Result<Step<'b>, Failure> {
        match ids {
            CHANNEL_OPEN => return Err(second_open()),
            CHANNEL_CLOSE => frame::put_method(&mut self.output, channel, &Method::ChannelCloseOk {}),
            CHANNEL_CLOSE_OK => self.set_slot(channel, Slot::Closed),
            _ => {}
        }
        Ok(Step::Took(took))
    }

    /// A method on an open channel: 503 for what a client does not send, 540 for channel.flow
    /// with active=false and basic.publish with immediate=true.
    fn on_open_channel<'b>(
        &mut self,
        channel: u16,
        method: Method<'b>,
        took: usize,
    ) -> Result<Step<'b>, Failure> {
        let ids = method.ids();
        match method {
            Method::ChannelOpen {} => return Err(second_open()),
            Method::ChannelClose { .. } => {
                frame::put_method(&mut self.output, channel, &Method::ChannelCloseOk {});
                self.set_slot(channel, Slot::Closed);
                return Ok(Step::Event(took, Event::ChannelClosed(channel)));
            }
            Method::ChannelFlow { active: true } => {
                frame::put_method(&mut self.output, channel, &Method::ChannelFlowOk { active: true });
            }
            Method::ChannelFlow { active: false } => {
                return Err(Failure::new(ReplyCode::NotImplemented, "active=false", ids));
            }
            Method::AccessRequest { .. } => {
                frame::put_method(&mut self.output, channel, &Method::AccessRequestOk { ticket: 1 });
            }
            Method::BasicPublish { immediate: true, .. } => {
                return Err(Failure::new(ReplyCode::NotImplemented, "immediate=true", ids));
            }
            Method::BasicPublish { exchange, routing_key, mandatory, immediate: false } => {
                self.set_slot(channel, Slot::AwaitHeader(Content::new(exchange, routing_key, mandatory)));
            }
            // The answer to a basic.cancel of this side.
            Method::BasicCancelOk { .. } => {}
            method if is_request(&method) => {
                return Ok(Step::Event(took, Event::Request { channel, method }));
            }
            _ => return Err(Failure::unimplemented(ids)),
        }
        Ok(Step::Took(took))
    }

    fn set_slot(&mut self, channel: u16, to: Slot) {
        if let Some(slot) = self.channels.get_mut(channel) {
            *slot = to;
        }
    }

    /// Takes the header of the frame that ended the connection, so that what follows it is dropped
    /// as it comes and not looked at again.
    pub(super) fn drop_frame(&mut self, bytes: &[u8]) -> usize {
        match FrameHeader::read(bytes) {
            Some(header) if self.phase == Phase::Closing && self.body_frame.is_none() && !self.lost => {
                self.drop_payload(header);
                HEADER_BYTES
            }
            _ => 0,
        }
    }

    fn drop_payload(&mut self, header: FrameHeader) {
        self.body_frame = Some(BodyFrame { channel: 0, left_bytes: header.payload_bytes as usize, start: 0 });
    }

    /// After connection.close was sent: all but close and close-ok of the connection is dropped,
    /// as it comes.
    pub(super) fn step_closing<'b>(&mut self, bytes: &'b [u8]) -> Step<'b> {
        if bytes.is_empty() {
            return Step::More;
        }
        if let Some(dropped) = self.body_frame {
            let took = bytes.len().min(dropped.left_bytes);
            self.body_frame = Some(BodyFrame { left_bytes: dropped.left_bytes - took, ..dropped });
            if took < bytes.len() {
                self.body_frame = None;
                return Step::Took(took + 1);
            }
            return Step::Took(took);
        }
        if self.lost {
            return Step::Took(bytes.len());
        }
        let Some(header) = FrameHeader::read(bytes) else {
            return Step::More;
        };
        if header.payload_bytes as usize > self.payload_bytes_max {
            self.lost = true;
            return Step::Took(bytes.len());
        }
        if (header.kind, header.channel) != (METHOD, 0) {
            self.drop_payload(header);
            return Step::Took(HEADER_BYTES);
        }
        let Some(frame) = header.frame(bytes) else {
            return Step::More;
        };
        match method_ids(frame.payload) {
            Ok((CONNECTION_CLOSE, _)) => {
                frame::put_method(&mut self.output, 0, &Method::ConnectionCloseOk {})
            }
            Ok((CONNECTION_CLOSE_OK, _)) => self.phase = Phase::Closed,
            _ => {}
        }
        Step::Took(frame.length_bytes)
    }
}

fn assembled<'b>(channel: u16, content: Content) -> Event<'b> {
    Event::Publish(Publish {
        channel,
        mandatory: content.mandatory,
        exchange: Cow::Owned(content.exchange),
        routing_key: Cow::Owned(content.routing_key),
        properties: Cow::Owned(content.properties),
        body: Cow::Owned(content.body),
    })
}

fn second_open() -> Failure {
    Failure::new(ReplyCode::ChannelError, "second 'channel.open' seen", CHANNEL_OPEN)
}

/// Whether the broker answers it: sent by clients, on a channel, and not settled in the session.
fn is_request(method: &Method<'_>) -> bool {
    let info = method.info();
    info.sender.is_client() && info.class > 30
}
