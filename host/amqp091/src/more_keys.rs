//! Further routing keys: the headers `CC` and `BCC`, as RabbitMQ reads them.
//!
//! *In:* properties as [`crate::properties`] lays them out. *Out:* the keys of both; and the properties without
//! `BCC`, which nobody is to see who gets the message. It stays with the message where that is kept
//! ([`crate::form::HIDING`]), for a dead letter goes by those keys too.
//!
//! Each is an array; what is in it and is no long string is passed over, and so is a key that no routing key
//! can be, being too long. Of a header that comes twice the first counts.

use crate::{
    properties::{HEADERS, Properties},
    wire::{Elements, Field, Reader},
};
use alloc::{boxed::Box, format, string::String, vec::Vec};
use leveret_model::{MoreKeys, Name};

const CC: &[u8] = b"CC";
const BCC: &[u8] = b"BCC";

/// The flag of the headers, in the first octet of properties.
const HEADERS_FLAG: u8 = 1 << (HEADERS - 8);

/// Whether there are headers at all: without them there are no further keys.
#[must_use]
#[inline]
pub fn may_have(properties: &[u8]) -> bool {
    properties.first().is_some_and(|flags| flags & HEADERS_FLAG != 0)
}

/// The further routing keys of checked properties.
///
/// # Errors
/// One of the headers is no array; in RabbitMQ's words.
pub(crate) fn read(properties: &[u8]) -> Result<Option<Box<MoreKeys>>, String> {
    if !may_have(properties) {
        return Ok(None);
    }
    let Some((_, table)) = Properties::new(properties).headers_at() else { return Ok(None) };
    let (mut copies, mut hidden) = (None, None);
    let mut reader = Reader::new(table);
    while !reader.is_empty() {
        let Ok(name) = reader.shortstr() else { break };
        let kind = reader.rest().first().copied().unwrap_or_default();
        let Ok(field) = reader.field() else { break };
        match name {
            CC if copies.is_none() => copies = Some(keys_of("CC", kind, field)?),
            BCC => {
                let keys = keys_of("BCC", kind, field)?;
                hidden.get_or_insert(keys);
            }
            _ => {}
        }
    }
    if copies.is_none() && hidden.is_none() {
        return Ok(None);
    }
    let hides = hidden.is_some();
    let fits = |key: &&[u8]| key.len() <= Name::BYTES_MAX;
    let mut keys: Vec<Box<[u8]>> = copies.into_iter().flatten().filter(fits).map(Box::from).collect();
    let told = keys.len();
    keys.extend(hidden.into_iter().flatten().filter(fits).map(Box::from));
    Ok(Some(Box::new(MoreKeys { keys, told, hides })))
}

/// Checked properties without what receivers are not to see. If that was the last header, there is a table without any, as
/// RabbitMQ leaves it.
#[must_use]
pub fn shown(properties: &[u8]) -> Vec<u8> {
    let mut shown = properties.to_vec();
    let Some((start, table)) = Properties::new(properties).headers_at() else { return shown };
    let (mut hidden_at, mut reader) = (Vec::new(), Reader::new(table));
    while !reader.is_empty() {
        let before = table.len() - reader.rest().len();
        let Ok(name) = reader.shortstr() else { break };
        if reader.field().is_err() {
            break;
        }
        if name == BCC {
            hidden_at.push(start + before..start + table.len() - reader.rest().len());
        }
    }
    for range in hidden_at.into_iter().rev() {
        shown.drain(range);
    }
    let hidden_bytes = properties.len() - shown.len();
    if let Some(length) = shown.get_mut(start - 4..start)
        && let Ok(bytes) = u32::try_from(table.len() - hidden_bytes)
    {
        length.copy_from_slice(&bytes.to_be_bytes());
    }
    shown
}

fn keys_of<'a>(header: &str, kind: u8, field: Field<'a>) -> Result<Vec<&'a [u8]>, String> {
    let Field::Array(content) = field else {
        let kind = kind_name(kind);
        return Err(format!("invalid message: {{unacceptable_type_in_header,\"{header}\",{kind}}}"));
    };
    let strings = Elements::new(content).filter_map(|element| match element {
        Field::LongStr(key) => Some(key),
        _ => None,
    });
    Ok(strings.collect())
}

/// What RabbitMQ calls the type of a field.
const fn kind_name(kind: u8) -> &'static str {
    match kind {
        b't' => "bool",
        b'b' => "byte",
        b'B' => "unsignedbyte",
        b's' => "short",
        b'u' => "unsignedshort",
        b'I' => "signedint",
        b'i' => "unsignedint",
        b'l' | b'L' => "long",
        b'f' => "float",
        b'd' => "double",
        b'D' => "decimal",
        b'S' => "longstr",
        b'A' => "array",
        b'T' => "timestamp",
        b'F' => "table",
        b'x' => "binary",
        _ => "void",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::{MessageProperties, check};
    use leveret_model::{Table, Value};

    fn list(keys: &[&str]) -> Value {
        Value::List(keys.iter().map(|key| Value::Text((*key).into())).collect())
    }

    fn encoded(headers: Vec<(&'static str, Value)>) -> Vec<u8> {
        let headers: Table =
            headers.into_iter().map(|(name, value)| (Name::from_static(name), value)).collect();
        let properties = MessageProperties {
            content_type: Some(b"text/plain"),
            headers: Some(headers),
            message_id: Some(b"m"),
            ..MessageProperties::default()
        };
        properties.encode()
    }

    #[test]
    fn keys_of_both_headers_are_read_and_one_of_them_is_hidden() {
        let sent = encoded(alloc::vec![
            ("a", Value::Integer(1)),
            ("BCC", list(&["x"])),
            ("CC", list(&["y", "z"])),
            ("b", Value::Void),
        ]);
        let more = read(&sent).unwrap().unwrap();
        let keys: Vec<&[u8]> = more.keys.iter().map(|key| &**key).collect();
        assert_eq!(keys, [b"y", b"z", b"x"]);
        assert_eq!((more.told, more.hides), (2, true));
        assert_eq!(more.told_after(b"k").collect::<Vec<_>>(), [b"k", b"y", b"z"]);
        let shown = shown(&sent);
        let expected =
            encoded(alloc::vec![("a", Value::Integer(1)), ("CC", list(&["y", "z"])), ("b", Value::Void)]);
        assert_eq!(shown, expected);
        assert_eq!(check(&shown), Ok(()));
    }

    #[test]
    fn what_has_no_such_headers_has_no_further_keys() {
        for headers in [alloc::vec![], alloc::vec![("cc", list(&["x"])), ("Bcc", Value::Integer(1))]] {
            assert_eq!(read(&encoded(headers)), Ok(None));
        }
        assert_eq!(read(&MessageProperties::default().encode()), Ok(None));
    }

    #[test]
    fn the_last_header_goes_and_the_table_stays() {
        let sent = encoded(alloc::vec![("BCC", list(&[]))]);
        let more = read(&sent).unwrap().unwrap();
        assert!(more.keys.is_empty());
        assert!(more.hides);
        assert_eq!(shown(&sent), encoded(alloc::vec![]));
    }

    #[test]
    fn what_is_no_string_is_passed_over_and_what_is_no_array_is_an_error() {
        let long = "k".repeat(256);
        let mixed = Value::List(alloc::vec![
            Value::Integer(5),
            Value::Text("x".into()),
            Value::Void,
            Value::Text(long.as_str().into()),
        ]);
        let more = read(&encoded(alloc::vec![("CC", mixed)])).unwrap().unwrap();
        assert_eq!((more.keys, more.told, more.hides), (alloc::vec![Box::from(&b"x"[..])], 1, false));
        for (header, value, kind) in [
            ("CC", Value::Text("x".into()), "longstr"),
            ("BCC", Value::Integer(5), "long"),
            ("CC", Value::Void, "void"),
            ("BCC", Value::Boolean(true), "bool"),
        ] {
            let text = format!("invalid message: {{unacceptable_type_in_header,\"{header}\",{kind}}}");
            assert_eq!(read(&encoded(alloc::vec![(header, value)])), Err(text));
        }
    }
}
