//! One function a target. Each takes any bytes; it panics where something does not hold that must hold of all.

use crate::{amqp10, filter};
use leveret_amqp091::client::{self, Incoming};
use leveret_amqp091::frame::{self, FrameHeader, OVERHEAD_BYTES};
use leveret_amqp091::properties::{self, Properties};
use leveret_amqp091::wire::{self, Elements, Field, Fields, Reader};
use leveret_amqp091::{Event, FORM, Method, Session, SessionConfig};
use leveret_model::refusal::Resource;
use leveret_model::{HeaderSelection, Name, Property, Refusal};
use leveret_store::record::Take;
use leveret_store::record::frame::{BatchHeader, SegmentHeader};
use leveret_store::record::group::GroupView;
use leveret_store::record::key::Key;
use leveret_store::record::message::Payload;
use leveret_store::record::op::Op;
use std::sync::Arc;

/// The largest frame in these checks, in bytes; small, so that its bound is met.
const FRAME_BYTES_MAX: u32 = 8192;
/// The longest body that a session takes here, in bytes.
const BODY_BYTES_MAX: u64 = 100;

/// A check by the name of its target.
#[must_use]
pub fn named(target: &str) -> Option<fn(&[u8])> {
    Some(match target {
        "frames" => frames,
        "method" => method,
        "table" => table,
        "content" => content,
        "session" => session,
        "journal" => journal,
        "values10" => amqp10::values,
        "frames10" => amqp10::frames,
        "message10" => amqp10::message,
        "sasl10" => amqp10::sasl,
        "connection10" => amqp10::connection,
        "filter" => filter::check,
        _ => return None,
    })
}

/// A stream as a client reads it: each frame takes at least its overhead and never more than there is, and a method
/// is the same after it was written again.
pub fn frames(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some((took, incoming))) = client::next_frame(rest, FRAME_BYTES_MAX) {
        assert!((OVERHEAD_BYTES..=rest.len()).contains(&took));
        let header = FrameHeader::read(rest).expect("a frame has a header");
        let whole = header.frame(rest).expect("a frame that was read is whole");
        assert_eq!((whole.length_bytes, whole.end), (took, frame::END));
        if let Incoming::Method { channel, method } = incoming {
            let mut written = Vec::new();
            frame::put_method(&mut written, channel, &method);
            let read = client::next_frame(&written, u32::MAX).expect("what was written is read");
            let Some((length, Incoming::Method { channel: found, method })) = read else {
                panic!("no method: {read:?}");
            };
            assert_eq!((length, found), (written.len(), channel));
            let mut again = Vec::new();
            frame::put_method(&mut again, channel, &method);
            assert_eq!(again, written);
        }
        rest = &rest[took..];
    }
}

/// Class, number and arguments: what is decoded comes back from its own bytes, which stay the same.
pub fn method(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let (Ok(class), Ok(id)) = (reader.short(), reader.short()) else { return };
    let Ok(method) = Method::decode(class, id, reader.rest()) else { return };
    assert_eq!(method.ids(), (class, id));
    let mut written = Vec::new();
    method.encode(&mut written);
    // Compared as bytes: a number that is none is not equal to itself.
    let read = Method::decode(class, id, &written[4..]).expect("what was written is read");
    let mut again = Vec::new();
    read.encode(&mut again);
    assert_eq!(again, written);
}

/// The content of a field table: what checks is read to its end, at every level.
pub fn table(bytes: &[u8]) {
    // Whatever it is, its reader ends.
    let count = Fields::new(bytes).count();
    Elements::new(bytes).for_each(drop);
    if wire::check_table(bytes).is_err() {
        return;
    }
    let mut flat = Vec::new();
    Fields::new(bytes).for_each(|(_, field)| {
        field.put_flat(&mut flat);
        read_nested(&field);
    });
    let mut sized = Vec::new();
    wire::put_longstr(&mut sized, bytes);
    let Ok(table) = Reader::new(&sized).table() else { return };
    assert!(table.iter().len() <= count);
    let mut written = Vec::new();
    wire::put_table(&mut written, &table);
    let mut reader = Reader::new(&written);
    let read = reader.table().expect("what was written is read");
    assert!(reader.is_empty() && read.iter().len() == table.iter().len());
    let mut again = Vec::new();
    wire::put_table(&mut again, &read);
    assert_eq!(again, written);
}

fn read_nested(field: &Field<'_>) {
    match field {
        Field::Table(content) => {
            wire::check_table(content).expect("a table in one that checks");
            Fields::new(content).for_each(|(_, field)| read_nested(&field));
        }
        Field::Array(content) => Elements::new(content).for_each(|field| read_nested(&field)),
        _ => {}
    }
}

/// Flags and properties: what checks has each property whose flag is set, and no other.
pub fn content(bytes: &[u8]) {
    // Which bit of the flags says that a property is there.
    const FLAGS: [(Property, u32); 12] = [
        (Property::ContentType, 15),
        (Property::ContentEncoding, 14),
        (Property::DeliveryMode, 12),
        (Property::Priority, 11),
        (Property::CorrelationId, 10),
        (Property::ReplyTo, 9),
        (Property::Expiration, 8),
        (Property::MessageId, 7),
        (Property::Timestamp, 6),
        (Property::MessageType, 5),
        (Property::UserId, 4),
        (Property::AppId, 3),
    ];
    let mut out = Vec::new();
    FORM.put_headers(bytes, &HeaderSelection::All, &mut out);
    for (property, _) in FLAGS {
        FORM.put_property(bytes, property, &mut out);
    }
    let read = Properties::new(bytes);
    read.headers().for_each(drop);
    if properties::check(bytes).is_err() {
        return;
    }
    let flags = u16::from_be_bytes([bytes[0], bytes[1]]);
    for (property, bit) in FLAGS {
        assert_eq!(read.get(property).is_some(), flags & (1 << bit) != 0, "{property:?}");
    }
}

/// What a client sends, with the lengths of the pieces in which it comes: whole or in pieces, the same comes of it.
///
/// The first byte says whether the handshake goes before, the next three are the lengths.
pub fn session(bytes: &[u8]) {
    let Some(([after_handshake, lengths @ ..], stream)) = bytes.split_first_chunk::<4>() else { return };
    let mut sent = Vec::new();
    if after_handshake & 1 == 1 {
        crate::seeds::put_handshake(&mut sent);
    }
    sent.extend_from_slice(stream);
    let mut pieces = Vec::new();
    let mut rest = sent.as_slice();
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((1 + usize::from(*length)).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    assert_eq!(play(pieces), play(vec![&sent]));
}

/// Events, output, and how the session stands.
fn play(pieces: Vec<&[u8]>) -> (Vec<String>, Vec<u8>, bool, bool) {
    let config = SessionConfig { message_body_bytes_max: BODY_BYTES_MAX, ..SessionConfig::default() };
    let mut session = Session::new(Arc::new(config));
    let (mut events, mut unread) = (Vec::new(), Vec::new());
    for piece in pieces {
        unread.extend_from_slice(piece);
        let mut at = 0;
        loop {
            let (took, event) = session.next(&unread[at..]);
            at += took;
            let Some(event) = event else { break };
            events.push(format!("{event:?}"));
            match event {
                Event::Login(_) => session.authenticated(),
                Event::Open { .. } => session.opened(),
                Event::ChannelOpened(channel) => session.channel_opened(channel),
                Event::Publish(publish) if *publish.exchange == *b"nope" => {
                    let (name, vhost) = (Name::from_static("nope"), Name::from_static("/"));
                    let refusal = Refusal::NotFound { resource: Resource::Exchange, name, vhost };
                    session.refuse(publish.channel, &refusal, (60, 40));
                }
                _ => {}
            }
        }
        unread.drain(..at);
        let whole_frame = session.frame_bytes_max() as usize + OVERHEAD_BYTES;
        assert!(unread.len() < whole_frame, "{} bytes were left", unread.len());
    }
    let output = std::mem::take(session.output());
    let mut rest = output.as_slice();
    // Our own answers are whole frames, or the header of the protocol that we want.
    while !rest.is_empty() && rest != frame::PROTOCOL_HEADER {
        let (took, _) = client::next_frame(rest, u32::MAX).expect("frames").expect("whole frames");
        rest = &rest[took..];
    }
    (events, output, session.is_closing(), session.is_closed())
}

/// What a file of the store may hold: whatever it is, nothing is read beyond it.
pub fn journal(bytes: &[u8]) {
    let _ = SegmentHeader::decode(bytes);
    // Without a key, or nothing would ever be read further.
    let key = Key::default();
    if let Ok(header) = BatchHeader::decode(bytes, 1, key) {
        assert_eq!(BatchHeader::decode(&header.encode(key), 1, key), Ok(header));
    }
    if let Ok(group) = GroupView::decode(bytes, 0, key) {
        assert!(group.len_bytes <= bytes.len());
        let _ = group.check();
    }
    let mut take = Take(bytes);
    while let Ok(op) = Op::take(&mut take) {
        match op {
            Op::Enqueue(enqueue) => enqueue.targets().for_each(drop),
            Op::Ack(ranges) | Op::Delivered(ranges) => ranges.iter().for_each(drop),
            _ => {}
        }
    }
    if let Ok(message) = Payload::decode(bytes) {
        assert!(message.body.len() < bytes.len());
    }
}
