//! The short ways of what comes most: a message that lies whole in the bytes (method, header and
//! at most one body frame of one channel, one after another), and basic.ack.
//!
//! Nothing here refuses anything. What is not plain and whole is left to the long way in
//! [`super::running`], so that an error has one place and one text.

use super::{Event, Publish, Session};
use crate::{
    Method,
    content::Slot,
    frame::{BODY, END, HEADER, METHOD},
    properties,
};
use alloc::borrow::Cow;

impl Session {
    /// Whether `bytes` begin with a basic.publish on a channel that is open, so that
    /// [`Session::next`] will answer nothing before it yields that message (or finds it wrong, or
    /// wants more of it). Whoever gathers messages into batches settles the batch before anything
    /// else comes.
    #[must_use]
    #[inline]
    pub fn continues_publish(&self, bytes: &[u8]) -> bool {
        let Some([METHOD, c0, c1, _, _, _, _, 0, 60, 0, 40]) = bytes.first_chunk() else {
            return false;
        };
        let slot = self.channels.get(u16::from_be_bytes([*c0, *c1]));
        matches!(slot, Some(Slot::Open)) && self.body_frame.is_none() && self.notices.is_empty()
    }

    /// A basic.ack at the front of `bytes`, and how many bytes it takes.
    #[inline]
    pub(super) fn whole_ack<'b>(&self, bytes: &[u8]) -> Option<(usize, Event<'b>)> {
        // Frame header, class 60, method 80, delivery-tag, bits, end octet.
        let [METHOD, c0, c1, 0, 0, 0, 13, 0, 60, 0, 80, t0, t1, t2, t3, t4, t5, t6, t7, bits, END] =
            *bytes.first_chunk::<21>()?
        else {
            return None;
        };
        let channel = u16::from_be_bytes([c0, c1]);
        if !matches!(self.channels.get(channel)?, Slot::Open) {
            return None;
        }
        let delivery_tag = u64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
        let method = Method::BasicAck { delivery_tag, multiple: bits & 1 != 0 };
        Some((21, Event::Request { channel, method }))
    }

    /// A publish at the front of `bytes`, and how many bytes it takes.
    #[inline]
    pub(super) fn whole_publish<'b>(&self, bytes: &'b [u8]) -> Option<(usize, Publish<'b>)> {
        let (method, rest) = self.publish_method(bytes)?;
        let (properties, body_bytes, rest) = self.content_header(method.channel, rest)?;
        let (body, rest) =
            if body_bytes == 0 { (&[][..], rest) } else { content_body(method.channel, body_bytes, rest)? };
        let publish = Publish {
            channel: u16::from_be_bytes(method.channel),
            mandatory: method.mandatory,
            exchange: Cow::Borrowed(method.exchange),
            routing_key: Cow::Borrowed(method.routing_key),
            properties: Cow::Borrowed(properties),
            body: Cow::Borrowed(body),
        };
        Some((bytes.len() - rest.len(), publish))
    }

    /// The method frame of a publish, and what comes after it.
    #[inline]
    fn publish_method<'b>(&self, bytes: &'b [u8]) -> Option<(PublishMethod<'b>, &'b [u8])> {
        // Frame header, class 60, method 40.
        let ([METHOD, c0, c1, s0, s1, s2, s3, 0, 60, 0, 40], rest) = bytes.split_first_chunk()? else {
            return None;
        };
        let channel = [*c0, *c1];
        if !matches!(self.channels.get(u16::from_be_bytes(channel))?, Slot::Open) {
            return None;
        }
        let payload_bytes = self.payload_bytes([*s0, *s1, *s2, *s3])?;
        let (arguments, rest) = rest.split_at_checked(payload_bytes.checked_sub(4)?)?;
        let (&END, rest) = rest.split_first()? else {
            return None;
        };
        // Arguments: ticket, exchange, routing key, bits.
        let ([_, _, exchange_bytes], arguments) = arguments.split_first_chunk()?;
        let (exchange, arguments) = arguments.split_at_checked(usize::from(*exchange_bytes))?;
        let (key_bytes, arguments) = arguments.split_first()?;
        let (routing_key, arguments) = arguments.split_at_checked(usize::from(*key_bytes))?;
        let [bits] = arguments else { return None };
        let plain = bits & 2 == 0;
        plain.then_some((PublishMethod { channel, exchange, routing_key, mandatory: bits & 1 != 0 }, rest))
    }

    /// The header frame of content: the properties, the length of the body, and what comes after the frame.
    #[inline]
    fn content_header<'b>(&self, channel: [u8; 2], bytes: &'b [u8]) -> Option<(&'b [u8], u64, &'b [u8])> {
        // Frame header, class 60, weight 0, body length, properties.
        let ([HEADER, c0, c1, s0, s1, s2, s3, 0, 60, 0, 0, b0, b1, b2, b3, b4, b5, b6, b7], rest) =
            bytes.split_first_chunk()?
        else {
            return None;
        };
        let body_bytes = u64::from_be_bytes([*b0, *b1, *b2, *b3, *b4, *b5, *b6, *b7]);
        // A body of one frame is no longer than a payload, which a usize holds.
        if [*c0, *c1] != channel || body_bytes > self.body_in_frame_bytes_max {
            return None;
        }
        let payload_bytes = self.payload_bytes([*s0, *s1, *s2, *s3])?;
        let (properties, rest) = rest.split_at_checked(payload_bytes.checked_sub(12)?)?;
        let (&END, rest) = rest.split_first()? else {
            return None;
        };
        properties::check(properties).is_ok().then_some((properties, body_bytes, rest))
    }

    /// The length of a payload that is not too long.
    #[inline]
    fn payload_bytes(&self, size: [u8; 4]) -> Option<usize> {
        Some(u32::from_be_bytes(size) as usize).filter(|bytes| *bytes <= self.payload_bytes_max)
    }
}

/// What the method of a publish says.
struct PublishMethod<'b> {
    /// As in the frame.
    channel: [u8; 2],
    exchange: &'b [u8],
    routing_key: &'b [u8],
    mandatory: bool,
}

/// The one body frame of content with a body so long, and what comes after it.
#[inline]
fn content_body(channel: [u8; 2], body_bytes: u64, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let ([BODY, c0, c1, s0, s1, s2, s3], rest) = bytes.split_first_chunk()? else {
        return None;
    };
    if [*c0, *c1] != channel || u64::from(u32::from_be_bytes([*s0, *s1, *s2, *s3])) != body_bytes {
        return None;
    }
    let (body, rest) = rest.split_at_checked(body_bytes as usize)?;
    let (&END, rest) = rest.split_first()? else {
        return None;
    };
    Some((body, rest))
}
