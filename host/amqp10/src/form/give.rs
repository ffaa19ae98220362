//! A kept message as its receiver gets it.

use super::{
    parts::{Parts, data_bytes, put_data_head},
    project::{EXCHANGE, ROUTING_KEY},
};
use crate::{
    composite::Composite as _,
    descriptor,
    messaging::Header,
    types::{Symbol, Value, code, write},
};
use alloc::vec::Vec;

/// What a receiver is told beside what the message says itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Giving<'a> {
    /// The exchange that the message was published to.
    pub exchange: &'a [u8],
    /// The key that it was published with.
    pub routing_key: &'a [u8],
    /// Somebody had it before.
    pub redelivered: bool,
}

/// What is told anew, and kept for the messages that follow: with those of one queue it is often the same.
#[derive(Debug, Default)]
pub struct Head {
    /// The header and the annotations, encoded.
    told: Vec<u8>,
    /// Of what they were made, where that can be remembered.
    of: Option<Of>,
    /// The same, and what follows up to the body, where that is not as it was kept.
    whole: Vec<u8>,
}

/// Of what a head was made.
#[derive(Debug, Default)]
struct Of {
    /// Header and annotations as they were kept, the exchange, and the routing key, one after the other.
    bytes: Vec<u8>,
    /// Where the exchange begins, and where the routing key does.
    starts: (usize, usize),
    redelivered: bool,
}

/// More than so many bytes are not remembered.
const REMEMBERED_BYTES_MAX: usize = 1024;

impl Of {
    fn is(&self, front: &[u8], giving: &Giving<'_>) -> bool {
        let Giving { exchange, routing_key, redelivered } = *giving;
        let (exchange_at, key_at) = self.starts;
        let parts =
            (self.bytes.get(..exchange_at), self.bytes.get(exchange_at..key_at), self.bytes.get(key_at..));
        parts == (Some(front), Some(exchange), Some(routing_key)) && self.redelivered == redelivered
    }

    fn set(&mut self, front: &[u8], giving: &Giving<'_>) {
        self.bytes.clear();
        for part in [front, giving.exchange, giving.routing_key] {
            self.bytes.extend_from_slice(part);
        }
        self.starts = (front.len(), front.len() + giving.exchange.len());
        self.redelivered = giving.redelivered;
    }
}

impl Head {
    /// What is told of a message whose header and annotations, as they were kept, are `front`.
    fn tell(&mut self, parts: &Parts<'_>, front: &[u8], giving: &Giving<'_>) {
        if self.of.as_ref().is_some_and(|of| of.is(front, giving)) {
            return;
        }
        self.told.clear();
        put_header(&mut self.told, parts, giving);
        put_annotations(&mut self.told, parts, giving);
        let bytes = front.len() + giving.exchange.len() + giving.routing_key.len();
        if bytes <= REMEMBERED_BYTES_MAX {
            self.of.get_or_insert_default().set(front, giving);
        } else {
            self.of = None;
        }
    }
}

/// A kept message in pieces, which follow each other. `head` has what is told anew: the header
/// with first-acquirer and delivery-count (section 3.2.1), and the annotations with the exchange and the routing key.
/// The rest is as it came. How often it failed its annotation `x-delivery-count` says.
pub fn give<'a>(kept: &'a [u8], body: &'a [u8], giving: &Giving<'_>, head: &'a mut Head) -> [&'a [u8]; 5] {
    let ([head, bare, data_head], footer) = give_around(kept, body.len(), giving, head);
    [head, bare, data_head, body, footer]
}

/// The same for a body of so many bytes: what comes in front of it, and behind it.
pub fn give_around<'a>(
    kept: &'a [u8],
    body_bytes: usize,
    giving: &Giving<'_>,
    head: &'a mut Head,
) -> ([&'a [u8]; 3], &'a [u8]) {
    let parts = Parts::of(kept);
    let bare_start = parts.header.len() + parts.annotations.len();
    let data_start = kept.len() - parts.footer.len() - parts.data_head.len();
    let bare = kept.get(bare_start..data_start).unwrap_or_default();
    head.tell(&parts, kept.get(..bare_start).unwrap_or_default(), giving);
    if parts.data_head.is_empty() || data_bytes(parts.data_head) == Some(body_bytes) {
        return ([&head.told, bare, parts.data_head], parts.footer);
    }
    // The body is another than the one that came.
    head.whole.clear();
    head.whole.extend_from_slice(&head.told);
    head.whole.extend_from_slice(bare);
    put_data_head(&mut head.whole, body_bytes);
    ([&head.whole, &[], &[]], parts.footer)
}

fn put_header(out: &mut Vec<u8>, parts: &Parts<'_>, giving: &Giving<'_>) {
    let (mut failures, mut is_first) = (0, !giving.redelivered);
    if !parts.annotations.is_empty() {
        let annotations = parts.annotations();
        // What comes for the first time has not failed, whatever its publisher says.
        if giving.redelivered
            && let Some(Value::Long(count)) = annotations.get("x-delivery-count")
        {
            failures = u32::try_from(count).unwrap_or(0);
        }
        // It was acquired where it died, or could have been.
        is_first &= annotations.get("x-opt-deaths").is_none();
    }
    let came = parts.header();
    Header { first_acquirer: Some(is_first), delivery_count: Some(failures), ..came }.encode(out);
}

fn put_annotations(out: &mut Vec<u8>, parts: &Parts<'_>, giving: &Giving<'_>) {
    write::put_descriptor(out, descriptor::MESSAGE_ANNOTATIONS);
    let map = parts.annotations().map();
    write::put_counted(out, code::MAP8, code::MAP32, |out| {
        let mut count = 0;
        for (key, pair) in map.spans() {
            let name = key.as_symbol().map_or("", Symbol::as_str);
            if name != EXCHANGE && name != ROUTING_KEY {
                out.extend_from_slice(pair);
                count += 2;
            }
        }
        for (name, value) in [(EXCHANGE, giving.exchange), (ROUTING_KEY, giving.routing_key)] {
            write::put_bytes(out, (code::SYM8, code::SYM32), name.as_bytes());
            let is_text = core::str::from_utf8(value).is_ok();
            let codes = if is_text { (code::STR8, code::STR32) } else { (code::VBIN8, code::VBIN32) };
            write::put_bytes(out, codes, value);
            count += 2;
        }
        count
    });
}
