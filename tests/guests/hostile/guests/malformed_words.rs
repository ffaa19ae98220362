//! Answers a batch with words that make no sense. The routing key of its first message says how:
//!
//! | key | answer |
//! |---|---|
//! | `none` | no words at all |
//! | `more` | two decisions for each message |
//! | `count` | a delivery to five bindings with the ids of two |
//! | `huge` | a delivery to 2^56 - 1 bindings |
//! | `kind` | a decision of an unknown kind |
//! | `utf8` | a reject whose reason is not UTF-8 |
//!
//! Asked in the plain form, it is a direct exchange.
#![cfg(target_family = "wasm")]

use leveret_sdk::component::{Plugin, Registration, route_batch};

leveret_guests_hostile::misbehaving!("x-malformed-words", route(message, to) {});

struct Component;

impl Plugin for Component {
    const VERSION: &'static str = "1.0.0";
    const EXCHANGE_TYPES: &'static [Registration] = &[Registration::of::<Guest>()];
}

leveret_sdk::__export_exchange_type!(Component);
leveret_sdk::__export_exchange_type_batch!(malformed);

/// # Safety
/// As `route_batch`.
unsafe fn malformed(exchange: u32, messages: *mut u8, length_bytes: usize) -> *const usize {
    // SAFETY: the component model's promise for a list of bytes.
    let batch = unsafe { std::slice::from_raw_parts(messages, length_bytes) };
    // The first message: its length (four bytes), the key's length (two bytes), the key.
    let key = match batch {
        [_, _, _, _, low, high, rest @ ..] => rest.get(..usize::from(u16::from_le_bytes([*low, *high]))),
        _ => None,
    };
    let words: &[u64] = match key {
        Some(b"none") => &[],
        Some(b"more") => &[0; 1024],
        Some(b"count") => &[5, 1, 2],
        Some(b"huge") => &[(1 << 56) - 1],
        Some(b"kind") => &[9 << 56],
        Some(b"utf8") => &[2 << 56 | 3, 0x00ff_ffff],
        // SAFETY: passed on as it came.
        _ => return unsafe { route_batch(exchange, messages, length_bytes) },
    };
    Box::leak(Box::new([words.as_ptr().addr(), words.len()])).as_ptr()
}
