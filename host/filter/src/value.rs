//! Values of messages and expressions: how they compare, and what becomes of numbers.

use alloc::borrow::Cow;
use core::cmp::Ordering;

/// A value, in the classes that are told apart here.
///
/// Integers of every width are one class and floats of every width another; both are numbers, and compare exactly with
/// each other. Strings and symbols are one class.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// A truth value.
    Boolean(bool),
    /// An exact number; also a point in time, in milliseconds since 1970.
    Integer(i128),
    /// An approximate number.
    Real(f64),
    /// A string or a symbol.
    Text(Cow<'a, str>),
    /// Bytes.
    Binary(Cow<'a, [u8]>),
    /// A UUID, as its bytes.
    Uuid([u8; 16]),
    /// Something that is there, and that expressions cannot look into: a list, a map, an array.
    Opaque,
}

impl<'a> Value<'a> {
    /// The text, if it is one, or if it is bytes that are UTF-8.
    pub(crate) fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(Cow::Borrowed(bytes)) => core::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Self::Binary(Cow::Owned(bytes)) => alloc::string::String::from_utf8(bytes).ok().map(Cow::Owned),
            _ => None,
        }
    }

    /// The bytes of whatever is a sequence of them. As on RabbitMQ, a text and a binary of the same bytes are equal:
    /// `user-id` is binary, and people compare it with text.
    fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text.as_bytes()),
            Self::Binary(bytes) => Some(bytes),
            Self::Uuid(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// How many bytes are looked at when it is compared with another.
    pub(crate) fn compared_bytes(&self, other: &Self) -> usize {
        match (self.as_bytes(), other.as_bytes()) {
            (Some(a), Some(b)) => a.len().min(b.len()),
            _ => 0,
        }
    }

    /// Whether both are numbers, both are text or bytes, or both are truth values.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Boolean(_), Self::Boolean(_)) => true,
            (Self::Integer(_) | Self::Real(_), Self::Integer(_) | Self::Real(_)) => true,
            _ => self.as_bytes().is_some() && other.as_bytes().is_some(),
        }
    }

    /// Which is greater. `None` if they are not alike or have no order: truth values, and what is no number.
    pub(crate) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Some(a.cmp(b)),
            (Self::Real(a), Self::Real(b)) => a.partial_cmp(b),
            (Self::Integer(a), Self::Real(b)) => order_mixed(*a, *b),
            (Self::Real(a), Self::Integer(b)) => order_mixed(*b, *a).map(Ordering::reverse),
            _ => Some(self.as_bytes()?.cmp(other.as_bytes()?)),
        }
    }

    /// Whether they are alike and equal.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            _ => self.order(other) == Some(Ordering::Equal),
        }
    }
}

/// Compares an exact number with an approximate one as the numbers that they are: neither is rounded.
fn order_mixed(exact: i128, approximate: f64) -> Option<Ordering> {
    /// 2^127, which is the first that no `i128` can be.
    const END: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;
    if approximate.is_nan() {
        return None;
    }
    if approximate >= END {
        return Some(Ordering::Less);
    }
    if approximate < -END {
        return Some(Ordering::Greater);
    }
    // It is in the range, so only what is behind the point is cut off.
    let whole = approximate as i128;
    Some(exact.cmp(&whole).then_with(|| {
        let fraction = approximate - whole as f64;
        0.0.partial_cmp(&fraction).unwrap_or(Ordering::Equal)
    }))
}

/// What is done with two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    /// An exact quotient of exact numbers is exact, every other is approximate.
    Divide,
    /// As [`Self::Divide`], but of exact numbers what is behind the point is cut off, as Java does.
    DivideWhole,
    Remainder,
}

impl Arithmetic {
    /// Of two numbers. `None` if one is no number, or where it is divided by zero.
    ///
    /// Exact numbers stay exact, unless the result has more than 127 bits: then it is approximate.
    pub(crate) fn of<'a>(self, left: &Value<'_>, right: &Value<'_>) -> Option<Value<'a>> {
        if let (Value::Integer(a), Value::Integer(b)) = (left, right) {
            if matches!(self, Self::Divide | Self::DivideWhole | Self::Remainder) && *b == 0 {
                return None;
            }
            if let Some(exact) = self.exact(*a, *b) {
                return Some(Value::Integer(exact));
            }
        }
        self.approximate(as_real(left)?, as_real(right)?).map(Value::Real)
    }

    fn exact(self, a: i128, b: i128) -> Option<i128> {
        match self {
            Self::Add => a.checked_add(b),
            Self::Subtract => a.checked_sub(b),
            Self::Multiply => a.checked_mul(b),
            Self::Divide => a.checked_div(b).filter(|quotient| quotient.checked_mul(b) == Some(a)),
            Self::DivideWhole => a.checked_div(b),
            Self::Remainder => a.checked_rem(b),
        }
    }

    fn approximate(self, a: f64, b: f64) -> Option<f64> {
        match self {
            Self::Add => Some(a + b),
            Self::Subtract => Some(a - b),
            Self::Multiply => Some(a * b),
            Self::Divide | Self::DivideWhole => (b != 0.0).then(|| a / b),
            Self::Remainder => (b != 0.0).then(|| a % b),
        }
    }
}

/// The negated number, if it is a number.
pub(crate) fn negate<'a>(value: &Value<'_>) -> Option<Value<'a>> {
    Arithmetic::Subtract.of(&Value::Integer(0), value)
}

fn as_real(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Integer(exact) => Some(*exact as f64),
        Value::Real(approximate) => Some(*approximate),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEYOND_F64: i128 = (1 << 53) + 1;

    #[test]
    fn exact_and_approximate_numbers_compare_without_rounding() {
        for (exact, approximate, expected) in [
            (5, 5.0, Some(Ordering::Equal)),
            (5, 5.5, Some(Ordering::Less)),
            (-5, -5.5, Some(Ordering::Greater)),
            (0, -0.0, Some(Ordering::Equal)),
            (BEYOND_F64, BEYOND_F64 as f64, Some(Ordering::Greater)),
            (-BEYOND_F64, -(BEYOND_F64 as f64), Some(Ordering::Less)),
            (i128::MAX, f64::INFINITY, Some(Ordering::Less)),
            (i128::MIN, f64::NEG_INFINITY, Some(Ordering::Greater)),
            (i128::MIN, i128::MIN as f64, Some(Ordering::Equal)),
            (i128::MAX, 1e300, Some(Ordering::Less)),
            (0, f64::NAN, None),
        ] {
            let (a, b) = (Value::Integer(exact), Value::Real(approximate));
            assert_eq!(a.order(&b), expected, "{exact} and {approximate}");
            assert_eq!(b.order(&a), expected.map(Ordering::reverse), "{approximate} and {exact}");
        }
    }

    #[test]
    fn sums_beyond_the_exact_range_are_approximate() {
        let sum = Arithmetic::Add.of(&Value::Integer(i128::MAX), &Value::Integer(1));
        assert!(matches!(sum, Some(Value::Real(real)) if real == i128::MAX as f64));
        let least = negate(&Value::Integer(i128::MIN));
        assert!(matches!(least, Some(Value::Real(real)) if real == -(i128::MIN as f64)));
        let remainder = Arithmetic::Remainder.of(&Value::Integer(i128::MIN), &Value::Integer(-1));
        assert!(matches!(remainder, Some(Value::Real(0.0))));
    }

    #[test]
    fn only_like_values_have_an_order() {
        let text = |text: &'static str| Value::Text(Cow::Borrowed(text));
        let bytes = |bytes: &'static [u8]| Value::Binary(Cow::Borrowed(bytes));
        assert!(text("a").equals(&bytes(b"a")));
        assert!(Value::Uuid([7; 16]).equals(&bytes(&[7; 16])));
        assert_eq!(text("a").order(&text("b")), Some(Ordering::Less));
        assert_eq!(text("1").order(&Value::Integer(1)), None);
        assert_eq!(Value::Boolean(true).order(&Value::Boolean(false)), None);
        assert!(Value::Boolean(true).equals(&Value::Boolean(true)));
        assert!(!Value::Opaque.equals(&Value::Opaque));
    }
}
