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

/// A kept message in pieces, which follow each other. `head` is cleared, and then has what is told anew: the header
/// with first-acquirer and delivery-count (section 3.2.1), and the annotations with the exchange and the routing key.
/// The rest is as it came. How often it failed its annotation `x-delivery-count` says.
pub fn give<'a>(kept: &'a [u8], body: &'a [u8], giving: &Giving<'_>, head: &'a mut Vec<u8>) -> [&'a [u8]; 5] {
    let ([head, bare, data_head], footer) = give_around(kept, body.len(), giving, head);
    [head, bare, data_head, body, footer]
}

/// The same for a body of so many bytes: what comes in front of it, and behind it.
pub fn give_around<'a>(
    kept: &'a [u8],
    body_bytes: usize,
    giving: &Giving<'_>,
    head: &'a mut Vec<u8>,
) -> ([&'a [u8]; 3], &'a [u8]) {
    head.clear();
    let parts = Parts::of(kept);
    let came = parts.header();
    let failures = if parts.annotations.is_empty() {
        0
    } else {
        match parts.annotations().get("x-delivery-count") {
            Some(Value::Long(count)) => u32::try_from(count).unwrap_or(u32::MAX),
            _ => 0,
        }
    };
    let header = Header { first_acquirer: Some(!giving.redelivered), delivery_count: Some(failures), ..came };
    header.encode(head);
    put_annotations(head, &parts, giving);
    let bare_start = parts.header.len() + parts.annotations.len();
    let data_start = kept.len() - parts.footer.len() - parts.data_head.len();
    let bare = kept.get(bare_start..data_start).unwrap_or_default();
    if parts.data_head.is_empty() || data_bytes(parts.data_head) == Some(body_bytes) {
        return ([head, bare, parts.data_head], parts.footer);
    }
    // The body is another than the one that came.
    head.extend_from_slice(bare);
    put_data_head(head, body_bytes);
    ([head, &[], &[]], parts.footer)
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
