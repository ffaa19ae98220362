//! Message properties: what follows the body length in a content header (section 4.2.6.1).
//!
//! ```text
//! u16 flags, then each property whose flag is set, in this order:
//!   bit 15 content-type shortstr      bit 8 expiration shortstr
//!   bit 14 content-encoding shortstr  bit 7 message-id shortstr
//!   bit 13 headers table              bit 6 timestamp u64, seconds
//!   bit 12 delivery-mode u8           bit 5 type shortstr
//!   bit 11 priority u8                bit 4 user-id shortstr
//!   bit 10 correlation-id shortstr    bit 3 app-id shortstr
//!   bit 9  reply-to shortstr          bit 2 cluster-id shortstr
//! ```
//! Bit 1 says nothing. Bit 0 says that more flags follow, which no property of this class needs:
//! it is refused.

use crate::wire::{self, Field, Fields, Malformed, Reader, check_table};
use alloc::vec::Vec;
use leveret_model::{Property, Table};

/// The properties of a message that has none.
pub const NONE: &[u8] = &[0, 0];

pub(crate) const HEADERS: u32 = 13;
pub(crate) const CONTINUED: u16 = 1;
/// The flags that stand for a property.
pub(crate) const DEFINED: u16 = 0xfffc;

/// Checks properties, headers included: every byte is accounted for.
///
/// # Errors
/// If a property is cut short, bytes are left over, more flags follow, or headers make no sense
/// or nest too deep.
#[inline]
pub fn check(properties: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(properties);
    let flags = reader.short()?;
    if flags & CONTINUED != 0 {
        return Err(Malformed);
    }
    let mut left = flags & DEFINED;
    while left != 0 {
        let bit = left.ilog2();
        left &= !(1 << bit);
        if bit == HEADERS {
            check_table(reader.longstr()?)?;
        } else {
            skip(&mut reader, bit)?;
        }
    }
    if reader.is_empty() { Ok(()) } else { Err(Malformed) }
}

/// Passes over one property.
#[inline]
pub(crate) fn skip(reader: &mut Reader<'_>, bit: u32) -> Result<(), Malformed> {
    match bit {
        HEADERS => reader.longstr().map(drop),
        12 | 11 => reader.octet().map(drop),
        6 => reader.longlong().map(drop),
        _ => reader.shortstr().map(drop),
    }
}

const fn flag(property: Property) -> u32 {
    match property {
        Property::ContentType => 15,
        Property::ContentEncoding => 14,
        Property::DeliveryMode => 12,
        Property::Priority => 11,
        Property::CorrelationId => 10,
        Property::ReplyTo => 9,
        Property::Expiration => 8,
        Property::MessageId => 7,
        Property::Timestamp => 6,
        Property::MessageType => 5,
        Property::UserId => 4,
        Property::AppId => 3,
    }
}

/// The property of a flag; none for the headers, and for what no plugin reads.
pub(crate) const fn of_flag(bit: u32) -> Option<Property> {
    Some(match bit {
        15 => Property::ContentType,
        14 => Property::ContentEncoding,
        12 => Property::DeliveryMode,
        11 => Property::Priority,
        10 => Property::CorrelationId,
        9 => Property::ReplyTo,
        8 => Property::Expiration,
        7 => Property::MessageId,
        6 => Property::Timestamp,
        5 => Property::MessageType,
        4 => Property::UserId,
        3 => Property::AppId,
        _ => return None,
    })
}

/// Reads single properties of checked ones. What makes no sense is as if it were not there.
#[derive(Clone, Copy, Debug)]
pub struct Properties<'a>(&'a [u8]);

impl<'a> Properties<'a> {
    /// Of these bytes, which begin with the flags.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// A property: a string as [`Field::LongStr`], a number as [`Field::Integer`], the timestamp
    /// as [`Field::Timestamp`].
    #[must_use]
    pub fn get(&self, property: Property) -> Option<Field<'a>> {
        let mut reader = self.seek(flag(property))?;
        Some(match property {
            Property::DeliveryMode | Property::Priority => Field::Integer(i64::from(reader.octet().ok()?)),
            Property::Timestamp => Field::Timestamp(wire::milliseconds(reader.longlong().ok()?)),
            _ => Field::LongStr(reader.shortstr().ok()?),
        })
    }

    /// A property that is a string.
    #[must_use]
    pub fn string(&self, property: Property) -> Option<&'a [u8]> {
        if let Field::LongStr(bytes) = self.get(property)? { Some(bytes) } else { None }
    }

    /// Whether the message is to survive a restart: delivery-mode 2.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.get(Property::DeliveryMode) == Some(Field::Integer(2))
    }

    /// The headers, in their order, with names that come twice.
    #[must_use]
    pub fn headers(&self) -> Fields<'a> {
        Fields::new(self.seek(HEADERS).and_then(|mut reader| reader.longstr().ok()).unwrap_or_default())
    }

    /// The content of the headers' table and where it begins, if there is one.
    pub(crate) fn headers_at(&self) -> Option<(usize, &'a [u8])> {
        let mut reader = self.seek(HEADERS)?;
        let content = reader.longstr().ok()?;
        Some((self.0.len() - reader.rest().len() - content.len(), content))
    }

    /// A reader in front of a property, if it is there.
    fn seek(&self, bit: u32) -> Option<Reader<'a>> {
        let mut reader = Reader::new(self.0);
        let flags = reader.short().ok()?;
        if flags & (1 << bit) == 0 {
            return None;
        }
        let mut before = u32::from(flags) & !((2 << bit) - 1);
        while before != 0 {
            let bit = before.ilog2();
            before &= !(1 << bit);
            skip(&mut reader, bit).ok()?;
        }
        Some(reader)
    }
}

/// Properties to be sent, by clients.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the fields are the specification's")]
pub struct MessageProperties<'a> {
    pub content_type: Option<&'a [u8]>,
    pub content_encoding: Option<&'a [u8]>,
    pub headers: Option<Table>,
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    pub correlation_id: Option<&'a [u8]>,
    pub reply_to: Option<&'a [u8]>,
    pub expiration: Option<&'a [u8]>,
    pub message_id: Option<&'a [u8]>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    pub message_type: Option<&'a [u8]>,
    pub user_id: Option<&'a [u8]>,
    pub app_id: Option<&'a [u8]>,
}

impl MessageProperties<'_> {
    /// The bytes, beginning with the flags.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::from([0, 0]);
        let mut flags = 0u16;
        let mut string = |out: &mut Vec<u8>, bit: u32, value: Option<&[u8]>| {
            if let Some(value) = value {
                flags |= 1 << bit;
                wire::put_shortstr(out, value);
            }
        };
        string(&mut out, 15, self.content_type);
        string(&mut out, 14, self.content_encoding);
        if let Some(headers) = &self.headers {
            wire::put_table(&mut out, headers);
        }
        out.extend(self.delivery_mode);
        out.extend(self.priority);
        string(&mut out, 10, self.correlation_id);
        string(&mut out, 9, self.reply_to);
        string(&mut out, 8, self.expiration);
        string(&mut out, 7, self.message_id);
        if let Some(timestamp) = self.timestamp {
            out.extend_from_slice(&timestamp.to_be_bytes());
        }
        string(&mut out, 5, self.message_type);
        string(&mut out, 4, self.user_id);
        string(&mut out, 3, self.app_id);
        flags |= u16::from(self.headers.is_some()) << HEADERS;
        flags |= u16::from(self.delivery_mode.is_some()) << 12;
        flags |= u16::from(self.priority.is_some()) << 11;
        flags |= u16::from(self.timestamp.is_some()) << 6;
        if let Some(place) = out.first_chunk_mut() {
            *place = flags.to_be_bytes();
        }
        out
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use leveret_model::{Name, Value};

    /// All fourteen properties.
    pub(crate) const FIXTURE: &[u8] =
        b"\xff\xfc\x0atext/plain\x04gzip\0\0\0\x0e\x01aI\0\0\0\x05\x01bS\0\0\0\0\
        \x02\x09\x03cor\x03rep\x0260\x03mid\0\0\0\0\0\0\0\x07\x03typ\x05guest\x03app\x02cl";

    #[test]
    fn every_property_of_the_fixture_is_read() {
        assert_eq!(check(FIXTURE), Ok(()));
        let properties = Properties::new(FIXTURE);
        let values: Vec<_> =
            Property::ALL.iter().map(|property| properties.get(*property).unwrap()).collect();
        let expected = [
            Field::LongStr(b"text/plain"),
            Field::LongStr(b"gzip"),
            Field::Integer(2),
            Field::Integer(9),
            Field::LongStr(b"cor"),
            Field::LongStr(b"rep"),
            Field::LongStr(b"60"),
            Field::LongStr(b"mid"),
            Field::Timestamp(7000),
            Field::LongStr(b"typ"),
            Field::LongStr(b"guest"),
            Field::LongStr(b"app"),
        ];
        assert_eq!(values, expected);
        assert!(properties.is_persistent());
        assert_eq!(properties.string(Property::ReplyTo), Some(b"rep".as_slice()));
        let headers: Vec<_> = properties.headers().collect();
        let names = [(b"a".as_slice(), Field::Integer(5)), (b"b".as_slice(), Field::LongStr(b""))];
        assert_eq!(headers, names);
    }

    #[test]
    fn a_property_that_is_not_there_is_absent() {
        assert_eq!(check(NONE), Ok(()));
        for property in Property::ALL {
            assert_eq!(Properties::new(NONE).get(property), None);
        }
        assert_eq!(Properties::new(NONE).headers().next(), None);
        assert!(!Properties::new(b"\x10\0\x01").is_persistent());
    }

    #[test]
    fn flags_and_properties_belong_together() {
        for property in Property::ALL {
            assert_eq!(of_flag(flag(property)), Some(property));
        }
        assert_eq!((0..16).filter_map(of_flag).count(), Property::ALL.len());
    }

    #[test]
    fn what_does_not_fill_its_bytes_is_malformed() {
        for end in 0..FIXTURE.len() {
            assert_eq!(check(&FIXTURE[..end]), Err(Malformed), "cut at {end}");
        }
        assert_eq!(check(&[FIXTURE, b"x"].concat()), Err(Malformed), "bytes left over");
        assert_eq!(check(b"\0\x01\0\0"), Err(Malformed), "more flags");
        assert_eq!(check(b"\x20\0\0\0\0\x03\x01aQ"), Err(Malformed), "an unknown field type");
        assert_eq!(check(b"\x80\x02\x01x"), Ok(()), "the flag that says nothing");
    }

    #[test]
    fn what_a_client_encodes_is_read_back() {
        let headers: Table =
            [(Name::from_static("a"), Value::Integer(5)), (Name::from_static("b"), Value::Text("".into()))]
                .into_iter()
                .collect();
        let encoded = MessageProperties {
            content_type: Some(b"text/plain"),
            content_encoding: Some(b"gzip"),
            headers: Some(headers),
            delivery_mode: Some(2),
            priority: Some(9),
            correlation_id: Some(b"cor"),
            reply_to: Some(b"rep"),
            expiration: Some(b"60"),
            message_id: Some(b"mid"),
            timestamp: Some(7),
            message_type: Some(b"typ"),
            user_id: Some(b"guest"),
            app_id: Some(b"app"),
        }
        .encode();
        assert_eq!(check(&encoded), Ok(()));
        for property in Property::ALL {
            assert_eq!(Properties::new(&encoded).get(property), Properties::new(FIXTURE).get(property));
        }
        assert!(Properties::new(&encoded).headers().eq(Properties::new(FIXTURE).headers()));
        assert_eq!(MessageProperties::default().encode(), NONE);
    }
}
