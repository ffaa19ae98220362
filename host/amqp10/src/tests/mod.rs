//! What the specification says, laid out as it is: a module a part, and in it the sections in their order.

mod management;
mod management_responses;
mod part1_types;
mod part2_connections;
mod part2_frames;
mod part2_large;
mod part2_links;
mod part2_performatives;
mod part2_sessions;
mod part3_filters;
mod part3_messaging;
mod part3_sections;
mod part4_coordinator;
mod part4_transactions;
mod part5_sasl;
mod part5_security;
mod peer;

use crate::{
    composite::Composite,
    types::{DecodeError, ListBuilder, Reader, write},
};
use alloc::vec::Vec;
use core::fmt::Debug;

/// Bytes of groups of hexadecimal digits.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    assert_eq!(digits.len() % 2, 0, "{text}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn encoded<'a>(composite: &impl Composite<'a>) -> Vec<u8> {
    let mut out = Vec::new();
    composite.encode(&mut out);
    out
}

/// A described list.
fn described(descriptor: u64, fields: &ListBuilder) -> Vec<u8> {
    let mut out = Vec::new();
    write::put_descriptor(&mut out, descriptor);
    write::put(&mut out, fields.view());
    out
}

/// It is written as these bytes, and read back from them.
fn is<'a, T: Composite<'a> + PartialEq + Debug>(composite: &T, bytes: &'a [u8]) {
    assert_eq!(encoded(composite), bytes, "{composite:?}");
    let mut reader = Reader::new(bytes);
    assert_eq!(T::decode(&mut reader).as_ref(), Ok(composite));
    assert!(reader.is_empty());
}

fn decode<'a, T: Composite<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    T::decode(&mut Reader::new(bytes))
}
