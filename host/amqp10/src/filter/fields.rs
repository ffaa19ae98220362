//! The fields of a message, as filters ask for them.

use crate::{
    message::Message,
    types::{Reader, Symbol, Value},
};
use alloc::{borrow::Cow, format, string::String};
use leveret_filter::{Field, Value as Plain};

impl leveret_filter::Message for Message<'_> {
    fn field(&self, field: &Field) -> Option<Plain<'_>> {
        let layout = self.layout();
        let part = |span| self.part(span).unwrap_or_default();
        let annotation = |span, name: &str| entry_of(part(span), &Value::Symbol(Symbol::new(name)?));
        plain(match field {
            Field::Header(header) => field_of(part(layout.header), *header as usize),
            Field::Property(property) => field_of(part(layout.properties), *property as usize),
            Field::DeliveryAnnotation(name) => annotation(layout.delivery_annotations, name),
            Field::MessageAnnotation(name) => annotation(layout.message_annotations, name),
            Field::ApplicationProperty(name) => {
                entry_of(part(layout.application_properties), &Value::String(name))
            }
            Field::Footer(name) => annotation(layout.footer, name),
        }?)
    }
}

/// What a section holds, which was checked when the message came: so what lies in it is not looked at again.
fn content(section: &[u8]) -> Option<Value<'_>> {
    let mut reader = Reader::new(section);
    reader.octet().ok()?;
    reader.span().ok()?;
    reader.shallow().ok()
}

/// A field of a section that is a list, by its place there: headers and properties have theirs in the order of
/// [`leveret_filter::Header`] and [`leveret_filter::Property`].
pub(super) fn field_of(section: &[u8], place: usize) -> Option<Value<'_>> {
    match content(section)? {
        Value::List(list) => list.iter().nth(place),
        _ => None,
    }
}

/// The value of a key in a section that is a map.
pub(super) fn entry_of<'a>(section: &'a [u8], key: &Value<'_>) -> Option<Value<'a>> {
    match content(section)? {
        Value::Map(map) => map.get(key),
        _ => None,
    }
}

/// A value, as filters compare it; `None` of null.
pub(super) fn plain(value: Value<'_>) -> Option<Plain<'_>> {
    Some(match value {
        Value::Null => return None,
        Value::Boolean(boolean) => Plain::Boolean(boolean),
        Value::Ubyte(number) => Plain::Integer(number.into()),
        Value::Ushort(number) => Plain::Integer(number.into()),
        Value::Uint(number) => Plain::Integer(number.into()),
        Value::Ulong(number) => Plain::Integer(number.into()),
        Value::Byte(number) => Plain::Integer(number.into()),
        Value::Short(number) => Plain::Integer(number.into()),
        Value::Int(number) => Plain::Integer(number.into()),
        Value::Long(number) => Plain::Integer(number.into()),
        Value::Float(number) => Plain::Real(number.into()),
        Value::Double(number) => Plain::Real(number),
        Value::Decimal32(bytes) => decimal(u32::from_be_bytes(bytes).into(), &DECIMAL32),
        Value::Decimal64(bytes) => decimal(u64::from_be_bytes(bytes).into(), &DECIMAL64),
        Value::Decimal128(bytes) => decimal(u128::from_be_bytes(bytes), &DECIMAL128),
        Value::Char(character) => Plain::Text(Cow::Owned(String::from(character))),
        Value::Timestamp(time) => Plain::Integer(time.0.into()),
        Value::Uuid(uuid) => Plain::Uuid(uuid.0),
        Value::Binary(bytes) => Plain::Binary(Cow::Borrowed(bytes)),
        Value::String(text) => Plain::Text(Cow::Borrowed(text)),
        Value::Symbol(symbol) => Plain::Text(Cow::Borrowed(symbol.as_str())),
        Value::List(_) | Value::Map(_) | Value::Array(_) | Value::Described(_) => Plain::Opaque,
    })
}

/// A format of IEEE 754-2008 in its binary integer decimal encoding: the widths of all bits and of the exponent, what the
/// exponent is too great by, and how many digits there are.
struct DecimalFormat {
    bits: u32,
    exponent_bits: u32,
    bias: i32,
    digits: u32,
}

const DECIMAL32: DecimalFormat = DecimalFormat { bits: 32, exponent_bits: 8, bias: 101, digits: 7 };
const DECIMAL64: DecimalFormat = DecimalFormat { bits: 64, exponent_bits: 10, bias: 398, digits: 16 };
const DECIMAL128: DecimalFormat = DecimalFormat { bits: 128, exponent_bits: 14, bias: 6176, digits: 34 };

/// The number: exact if it is whole and not too large, else the nearest approximate one.
fn decimal(bits: u128, format: &DecimalFormat) -> Plain<'static> {
    let ones = |count: u32| (1_u128 << count) - 1;
    let field = |shift: u32, count: u32| (bits >> shift) & ones(count);
    let is_negative = field(format.bits - 1, 1) == 1;
    let coefficient_bits = format.bits - 1 - format.exponent_bits;
    let (exponent, coefficient) = if field(format.bits - 3, 2) != 0b11 {
        (field(coefficient_bits, format.exponent_bits), field(0, coefficient_bits))
    } else if field(format.bits - 5, 4) != 0b1111 {
        // The two bits in front say that the coefficient begins with 100.
        let low = coefficient_bits - 2;
        (field(low, format.exponent_bits), (0b100 << low) | field(0, low))
    } else if field(format.bits - 6, 1) == 1 {
        return Plain::Real(f64::NAN);
    } else {
        return Plain::Real(if is_negative { f64::NEG_INFINITY } else { f64::INFINITY });
    };
    // A coefficient with more digits than there are stands for zero.
    let coefficient = if coefficient < 10_u128.pow(format.digits) { coefficient } else { 0 };
    let exponent = i32::try_from(exponent).unwrap_or(0) - format.bias;
    let sign = if is_negative { "-" } else { "" };
    let whole = u32::try_from(exponent).ok().and_then(|exponent| 10_i128.checked_pow(exponent));
    let whole =
        whole.zip(i128::try_from(coefficient).ok()).and_then(|(power, whole)| power.checked_mul(whole));
    match whole {
        Some(whole) => Plain::Integer(if is_negative { -whole } else { whole }),
        None => format!("{sign}{coefficient}E{exponent}").parse().map_or(Plain::Opaque, Plain::Real),
    }
}
