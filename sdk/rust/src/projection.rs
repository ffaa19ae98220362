//! How the projection of a message is written; [`message`](crate::message) shows the layout.
//!
//! In a component this serves the plain form, whose messages become what the batch form brings; in the
//! test kit it plays the broker.

use crate::value::ABSENT;

/// Appends a field; nothing where the name does not fit. Says whether it did.
pub(crate) fn put_field(out: &mut Vec<u8>, name: &[u8], put_value: impl FnOnce(&mut Vec<u8>)) -> bool {
    let Ok(length) = u8::try_from(name.len()) else {
        return false;
    };
    out.push(length);
    out.extend_from_slice(name);
    put_value(out);
    true
}

/// Appends a routing key as a projection begins with it.
pub(crate) fn put_routing_key(out: &mut Vec<u8>, key: &[u8]) {
    out.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(key);
}

/// Appends headers: their number, then what `fill` appends, which returns how many those are.
pub(crate) fn put_headers(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>) -> u16) {
    let number_at = out.len();
    out.extend_from_slice(&[0; 2]);
    let number = fill(out);
    if let Some(place) = out.get_mut(number_at..number_at + 2) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

/// Appends a property that is not there.
pub(crate) fn put_absent(out: &mut Vec<u8>) {
    out.push(ABSENT);
}

/// Appends the body, or the mark of one that is too long to pass.
pub(crate) fn put_body(out: &mut Vec<u8>, body: Option<&[u8]>) {
    match body.map(|body| (u32::try_from(body.len()), body)) {
        Some((Ok(length), body)) => {
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(body);
        }
        _ => out.extend_from_slice(&u32::MAX.to_le_bytes()),
    }
}

/// Appends who published, or the mark of a message that nobody did.
pub(crate) fn put_publisher(out: &mut Vec<u8>, user: &str, connection: &str, protocol: &str) {
    put_short(out, user.as_bytes());
    put_routing_key(out, connection.as_bytes());
    put_short(out, protocol.as_bytes());
}

/// Appends a name of at most 255 bytes; nothing of it where it is longer.
pub(crate) fn put_short(out: &mut Vec<u8>, name: &[u8]) {
    match u8::try_from(name.len()) {
        Ok(length) => {
            out.push(length);
            out.extend_from_slice(name);
        }
        Err(_) => out.push(0),
    }
}
