//! Paths of requests: segments with percent signs, queries, and the segment that stands for a binding.

use alloc::{borrow::Cow, string::String, vec::Vec};

/// Why a path makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadUri(pub(super) &'static str);

/// A path, taken apart and not decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Uri<'a> {
    /// What lies between its slashes.
    pub(super) segments: Vec<&'a str>,
    /// What follows the question mark.
    pub(super) query: &'a str,
}

impl<'a> Uri<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, BadUri> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let path = path.strip_prefix('/').ok_or(BadUri("it does not begin with a slash"))?;
        Ok(Self { segments: path.split('/').collect(), query })
    }

    /// The decoded value of a name in the query, if it is there.
    pub(super) fn parameter(&self, name: &str) -> Result<Option<Cow<'a, str>>, BadUri> {
        let mut pairs = self.query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let Some((_, value)) = pairs.find(|(other, _)| *other == name) else { return Ok(None) };
        // As forms are encoded, a plus is a space there.
        if value.contains('+') {
            let spaced = value.replace('+', "%20");
            return decode(&spaced).map(|value| Some(Cow::Owned(value.into_owned())));
        }
        decode(value).map(Some)
    }
}

/// What a text with percent signs stands for.
pub(super) fn decode(text: &str) -> Result<Cow<'_, str>, BadUri> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        // from_str_radix takes a sign, which is no digit.
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or(BadUri("a percent sign is not followed by two hexadecimal digits"))?);
        bytes.extend_from_slice(part.get(2..).unwrap_or_default().as_bytes());
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| BadUri("it is not UTF-8 when it is decoded"))
}

/// The segment of a binding: source, whether the destination is a queue, destination, key, and what its arguments are
/// known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BindingSegment<'a> {
    pub(super) source: Cow<'a, str>,
    pub(super) is_queue: bool,
    pub(super) destination: Cow<'a, str>,
    pub(super) key: Cow<'a, str>,
    pub(super) arguments: &'a str,
}

impl<'a> BindingSegment<'a> {
    /// `src=S;dstq=Q;key=K;args=A` or `src=S;dste=X;key=K;args=A`, in this order. `None` if it is neither.
    pub(super) fn parse(segment: &'a str) -> Option<Self> {
        let mut parts = segment.split(';');
        let source = encoded(parts.next()?.strip_prefix("src=")?)?;
        let destination = parts.next()?;
        let (is_queue, destination) = match destination.strip_prefix("dstq=") {
            Some(queue) => (true, encoded(queue)?),
            None => (false, encoded(destination.strip_prefix("dste=")?)?),
        };
        let key = encoded(parts.next()?.strip_prefix("key=")?)?;
        let arguments = parts.next()?.strip_prefix("args=")?;
        let is_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if parts.next().is_some()
            || !arguments.bytes().all(is_key)
            || source.is_empty()
            || destination.is_empty()
        {
            return None;
        }
        Some(Self { source, is_queue, destination, key, arguments })
    }
}

/// What is said there, if all that must be encoded is.
fn encoded(text: &str) -> Option<Cow<'_, str>> {
    let is_encoded = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
    if text.bytes().all(is_encoded) { decode(text).ok() } else { None }
}
