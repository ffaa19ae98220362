//! Messages on their way out: basic.deliver, basic.get-ok and basic.return with their content,
//! written in one go.
//!
//! ```text
//! method frame   deliver: shortstr consumer-tag, u64 delivery-tag, u8 redelivered, exchange, routing-key
//!                get-ok:  u64 delivery-tag, u8 redelivered, exchange, routing-key, u32 message-count
//!                return:  u16 reply-code, shortstr reply-text, exchange, routing-key
//! header frame, body frames: see `frame`
//! ```

use crate::{frame, wire::put_shortstr};
use alloc::vec::Vec;
use leveret_model::MessageView;

/// A delivery to a consumer, its message aside.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The consumer; at most 255 bytes.
    pub consumer_tag: &'a [u8],
    /// The number under which it is acknowledged.
    pub delivery_tag: u64,
    /// Whether somebody may have seen it before.
    pub redelivered: bool,
}

/// Appends basic.deliver with its content.
#[inline]
pub fn put_deliver(
    out: &mut Vec<u8>,
    channel: u16,
    delivery: &Delivery<'_>,
    message: &MessageView<'_>,
    frame_bytes_max: u32,
) {
    let (exchange, routing_key) = (message.exchange, message.routing_key);
    let (Ok(consumer_tag_bytes), Ok(exchange_bytes), Ok(key_bytes)) = (
        u8::try_from(delivery.consumer_tag.len()),
        u8::try_from(exchange.len()),
        u8::try_from(routing_key.len()),
    ) else {
        return put_deliver_in_frames(out, channel, delivery, message, frame_bytes_max);
    };
    let body = message.body;
    if body.len() > frame::payload_bytes_max(frame_bytes_max) || body.is_empty() {
        return put_deliver_in_frames(out, channel, delivery, message, frame_bytes_max);
    }
    // Pieces of a fixed length are appended together.
    let payload = 16 + delivery.consumer_tag.len() + exchange.len() + routing_key.len();
    out.reserve(payload + message.properties.len() + body.len() + 12 + 3 * frame::OVERHEAD_BYTES);
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = (payload as u32).to_be_bytes();
    out.extend_from_slice(&[frame::METHOD, c0, c1, s0, s1, s2, s3, 0, 60, 0, 60, consumer_tag_bytes]);
    out.extend_from_slice(delivery.consumer_tag);
    let [t0, t1, t2, t3, t4, t5, t6, t7] = delivery.delivery_tag.to_be_bytes();
    let redelivered = u8::from(delivery.redelivered);
    out.extend_from_slice(&[t0, t1, t2, t3, t4, t5, t6, t7, redelivered, exchange_bytes]);
    out.extend_from_slice(exchange);
    out.push(key_bytes);
    out.extend_from_slice(routing_key);
    let [s0, s1, s2, s3] = (12 + message.properties.len() as u32).to_be_bytes();
    let [b0, b1, b2, b3, b4, b5, b6, b7] = (body.len() as u64).to_be_bytes();
    out.extend_from_slice(&[
        frame::END,
        frame::HEADER,
        c0,
        c1,
        s0,
        s1,
        s2,
        s3,
        0,
        60,
        0,
        0,
        b0,
        b1,
        b2,
        b3,
        b4,
        b5,
        b6,
        b7,
    ]);
    out.extend_from_slice(message.properties);
    out.extend_from_slice(&[frame::END, frame::BODY, c0, c1, b4, b5, b6, b7]);
    out.extend_from_slice(body);
    out.push(frame::END);
}

/// The same for any body.
fn put_deliver_in_frames(
    out: &mut Vec<u8>,
    channel: u16,
    delivery: &Delivery<'_>,
    message: &MessageView<'_>,
    frame_bytes_max: u32,
) {
    let arguments = delivery.consumer_tag.len() + 10 + exchange_and_key_bytes(message);
    begin(out, channel, 60, arguments, message, frame_bytes_max);
    put_shortstr(out, delivery.consumer_tag);
    let [t0, t1, t2, t3, t4, t5, t6, t7] = delivery.delivery_tag.to_be_bytes();
    out.extend_from_slice(&[t0, t1, t2, t3, t4, t5, t6, t7, u8::from(delivery.redelivered)]);
    put_exchange_and_key(out, message);
    out.push(frame::END);
    frame::put_content(out, channel, message.properties, message.body, frame_bytes_max);
}

/// Appends basic.deliver, and the header of a content whose body, of so many bytes, follows in frames of its own.
pub fn put_deliver_head(
    out: &mut Vec<u8>,
    channel: u16,
    delivery: &Delivery<'_>,
    (message, body_bytes): (&MessageView<'_>, u64),
    frame_bytes_max: u32,
) {
    let headless = MessageView { body: &[], ..*message };
    let start = out.len();
    put_deliver_in_frames(out, channel, delivery, &headless, frame_bytes_max);
    replace_header(out, start, channel, message, body_bytes);
}

/// The same for basic.get-ok.
pub fn put_get_ok_head(
    out: &mut Vec<u8>,
    channel: u16,
    (delivery_tag, redelivered, message_count): (u64, bool, u32),
    (message, body_bytes): (&MessageView<'_>, u64),
    frame_bytes_max: u32,
) {
    let headless = MessageView { body: &[], ..*message };
    let start = out.len();
    put_get_ok(out, channel, delivery_tag, redelivered, message_count, &headless, frame_bytes_max);
    replace_header(out, start, channel, message, body_bytes);
}

/// The header of a content without a body, which is the last that was put, is that of one with a body.
fn replace_header(out: &mut Vec<u8>, start: usize, channel: u16, message: &MessageView<'_>, body_bytes: u64) {
    let header_bytes = frame::content_bytes(message.properties, &[], u32::MAX);
    out.truncate(out.len().saturating_sub(header_bytes).max(start));
    frame::put_header(out, channel, message.properties, body_bytes);
}

/// Appends basic.get-ok with its content. `message_count`: how many are left in the queue.
pub fn put_get_ok(
    out: &mut Vec<u8>,
    channel: u16,
    delivery_tag: u64,
    redelivered: bool,
    message_count: u32,
    message: &MessageView<'_>,
    frame_bytes_max: u32,
) {
    begin(out, channel, 71, 13 + exchange_and_key_bytes(message), message, frame_bytes_max);
    out.extend_from_slice(&delivery_tag.to_be_bytes());
    out.push(u8::from(redelivered));
    put_exchange_and_key(out, message);
    out.extend_from_slice(&message_count.to_be_bytes());
    out.push(frame::END);
    frame::put_content(out, channel, message.properties, message.body, frame_bytes_max);
}

/// Appends basic.return with the message. `text`: at most 255 bytes.
pub fn put_return(
    out: &mut Vec<u8>,
    channel: u16,
    code: u16,
    text: &str,
    message: &MessageView<'_>,
    frame_bytes_max: u32,
) {
    let arguments = 3 + text.len() + exchange_and_key_bytes(message);
    begin(out, channel, 50, arguments, message, frame_bytes_max);
    out.extend_from_slice(&code.to_be_bytes());
    put_shortstr(out, text.as_bytes());
    put_exchange_and_key(out, message);
    out.push(frame::END);
    frame::put_content(out, channel, message.properties, message.body, frame_bytes_max);
}

/// The method frame up to the arguments, after making room for all that follows.
#[inline]
fn begin(
    out: &mut Vec<u8>,
    channel: u16,
    method: u8,
    arguments_bytes: usize,
    message: &MessageView<'_>,
    frame_bytes_max: u32,
) {
    let payload = 4 + arguments_bytes;
    out.reserve(
        frame::OVERHEAD_BYTES
            + payload
            + frame::content_bytes(message.properties, message.body, frame_bytes_max),
    );
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = u32::try_from(payload).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&[frame::METHOD, c0, c1, s0, s1, s2, s3, 0, 60, 0, method]);
}

fn exchange_and_key_bytes(message: &MessageView<'_>) -> usize {
    2 + message.exchange.len() + message.routing_key.len()
}

#[inline]
fn put_exchange_and_key(out: &mut Vec<u8>, message: &MessageView<'_>) {
    put_shortstr(out, message.exchange);
    put_shortstr(out, message.routing_key);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Method, form::FORM};

    fn message() -> MessageView<'static> {
        MessageView {
            exchange: b"ex",
            routing_key: b"key",
            form: FORM,
            properties: b"\x10\0\x02",
            body: b"hello",
            publisher: None,
        }
    }

    fn expected(method: &Method<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        frame::put_method(&mut out, 3, method);
        frame::put_content(&mut out, 3, b"\x10\0\x02", b"hello", 4096);
        out
    }

    #[test]
    fn a_delivery_is_its_method_frame_and_the_content() {
        let mut out = Vec::new();
        let delivery = Delivery { consumer_tag: b"tag", delivery_tag: 9, redelivered: true };
        put_deliver(&mut out, 3, &delivery, &message(), 4096);
        let method = Method::BasicDeliver {
            consumer_tag: b"tag",
            delivery_tag: 9,
            redelivered: true,
            exchange: b"ex",
            routing_key: b"key",
        };
        assert_eq!(out, expected(&method));
        assert_eq!(out[..16], *b"\x01\0\x03\0\0\0\x18\0\x3c\0\x3c\x03tag\0");
    }

    #[test]
    fn a_got_message_is_its_method_frame_and_the_content() {
        let mut out = Vec::new();
        put_get_ok(&mut out, 3, 9, false, 77, &message(), 4096);
        let method = Method::BasicGetOk {
            delivery_tag: 9,
            redelivered: false,
            exchange: b"ex",
            routing_key: b"key",
            message_count: 77,
        };
        assert_eq!(out, expected(&method));
    }

    #[test]
    fn a_returned_message_is_its_method_frame_and_the_content() {
        let mut out = Vec::new();
        put_return(&mut out, 3, 312, "NO_ROUTE", &message(), 4096);
        let method = Method::BasicReturn {
            reply_code: 312,
            reply_text: b"NO_ROUTE",
            exchange: b"ex",
            routing_key: b"key",
        };
        assert_eq!(out, expected(&method));
    }

    #[test]
    fn a_delivery_in_one_frame_is_as_any_other() {
        for (length, frame_bytes_max) in [(0, 4096), (1, 4096), (4088, 4096), (4089, 4096), (9000, 4096)] {
            let body = alloc::vec![b'x'; length];
            for tag in [&b""[..], b"ctag"] {
                let message = MessageView { body: &body, ..message() };
                let delivery = Delivery { consumer_tag: tag, delivery_tag: 1 << 40, redelivered: false };
                let (mut out, mut expected) = (Vec::new(), Vec::new());
                put_deliver(&mut out, 513, &delivery, &message, frame_bytes_max);
                put_deliver_in_frames(&mut expected, 513, &delivery, &message, frame_bytes_max);
                assert_eq!(out, expected, "a body of {length}");
            }
        }
    }
}
