//! Where the parts of a kept message lie; see [`super`] for the layout.

use crate::{
    composite::{Annotations, ApplicationMap, Composite, Field},
    descriptor,
    message::{Layout, Section, Span},
    messaging::{Header, Properties},
    types::{DecodeError, Reader, SmallHead, Value, code, write},
};
use alloc::vec::Vec;

/// How a message is kept that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// All but the body, where that is not as it came.
    rebuilt: Option<Vec<u8>>,
    /// The content of the one data section, or all sections of the body.
    body: Span,
    /// It has neither annotations nor properties.
    is_plain: bool,
}

impl Kept {
    /// Splits a message as it came into what is kept of it: all but the delivery-annotations, which are for the hop
    /// that is over (section 3.2.2). Where it has neither those nor a footer nothing is copied.
    ///
    /// # Errors
    /// If it makes no sense.
    pub fn of(message: &[u8]) -> Result<Self, DecodeError> {
        let layout = Layout::checked(message)?;
        let body =
            layout.body.map_or(Span { start: layout.bare().end, end: layout.bare().end }, |body| body.span);
        let is_one_data = layout.body.is_some_and(|body| body.kind == Section::Data && body.sections == 1);
        let head_bytes = if is_one_data { data_head(body.of(message)).unwrap_or(0) } else { 0 };
        let is_plain = layout.message_annotations.is_none() && layout.properties.is_none();
        let content = Span { start: body.start + head_bytes, end: body.end };
        if layout.delivery_annotations.is_none() && layout.footer.is_none() {
            return Ok(Self { rebuilt: None, body: content, is_plain });
        }
        let mut properties = Vec::with_capacity(message.len() - content.len());
        for span in [layout.header, layout.message_annotations].into_iter().flatten() {
            properties.extend_from_slice(span.of(message));
        }
        properties.extend_from_slice(message.get(layout.bare().start..content.start).unwrap_or_default());
        if let Some(footer) = layout.footer {
            properties.extend_from_slice(footer.of(message));
        }
        Ok(Self { rebuilt: Some(properties), body: content, is_plain })
    }

    /// Whether it has neither annotations nor properties: then it does not say whose it is, nor where else it goes.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// All but the body, as [`super`] lays it out. `message` is that of [`Self::of`].
    #[must_use]
    pub fn properties<'a>(&'a self, message: &'a [u8]) -> &'a [u8] {
        match &self.rebuilt {
            Some(properties) => properties,
            None => message.get(..self.body.start).unwrap_or_default(),
        }
    }

    /// The content of the one data section, or the sections of the body as they came.
    #[must_use]
    pub fn body<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        self.body.of(message)
    }
}

/// How many bytes of a data section stand in front of its content.
pub(super) fn data_head(section: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(section);
    reader.octet().ok()?;
    reader.span().ok()?;
    let length_bytes = match reader.octet().ok()? {
        code::VBIN8 => 1,
        code::VBIN32 => 4,
        _ => return None,
    };
    Some(section.len() - reader.rest().len() + length_bytes)
}

/// How long the content is of a data section whose head this is.
pub(crate) fn data_bytes(head: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(head);
    reader.octet().ok()?;
    reader.span().ok()?;
    match reader.rest() {
        [code::VBIN8, length] => Some((*length).into()),
        [code::VBIN32, length @ ..] => usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok(),
        _ => None,
    }
}

/// Appends what stands in front of the content of a data section.
pub(crate) fn put_data_head(out: &mut Vec<u8>, content_bytes: usize) {
    write::put_descriptor(out, descriptor::DATA);
    match u8::try_from(content_bytes) {
        Ok(bytes) => out.extend_from_slice(&[code::VBIN8, bytes]),
        Err(_) => {
            out.push(code::VBIN32);
            out.extend_from_slice(&u32::try_from(content_bytes).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
}

/// The parts of a kept message, encoded with their descriptors; empty where they are not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    pub(crate) header: &'a [u8],
    pub(crate) annotations: &'a [u8],
    pub(crate) properties: &'a [u8],
    pub(crate) application: &'a [u8],
    /// What stands in front of a body that is the content of a data section.
    pub(crate) data_head: &'a [u8],
    pub(crate) footer: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Of what was kept. What makes no sense is as if it were not there.
    pub(crate) fn of(kept: &'a [u8]) -> Self {
        let mut parts = Self::default();
        let mut rest = kept;
        while let Some((descriptor, bytes)) = section(rest) {
            let Some((section, after)) = rest.split_at_checked(bytes) else { break };
            match descriptor {
                descriptor::HEADER => parts.header = section,
                descriptor::MESSAGE_ANNOTATIONS => parts.annotations = section,
                descriptor::PROPERTIES => parts.properties = section,
                descriptor::APPLICATION_PROPERTIES => parts.application = section,
                descriptor::DATA => parts.data_head = section,
                descriptor::FOOTER => parts.footer = section,
                _ => break,
            }
            rest = after;
        }
        parts
    }

    pub(crate) fn header(&self) -> Header {
        composite(self.header).unwrap_or_default()
    }

    pub(crate) fn properties(&self) -> Properties<'a> {
        composite(self.properties).unwrap_or_default()
    }

    pub(crate) fn annotations(&self) -> Annotations<'a> {
        map(self.annotations).unwrap_or_default()
    }

    pub(crate) fn application(&self) -> ApplicationMap<'a> {
        map(self.application).unwrap_or_default()
    }
}

/// The header of what was kept, which comes first.
#[inline]
pub(crate) fn header_of(kept: &[u8]) -> Header {
    match section(kept) {
        Some((descriptor::HEADER, bytes)) => {
            composite(kept.get(..bytes).unwrap_or_default()).unwrap_or_default()
        }
        _ => Header::default(),
    }
}

/// The annotations of what was kept, before which the header may stand.
#[inline]
pub(crate) fn annotations_of(kept: &[u8]) -> Annotations<'_> {
    let mut rest = kept;
    while let Some((found, bytes)) = section(rest) {
        match found {
            descriptor::HEADER => rest = rest.get(bytes..).unwrap_or_default(),
            descriptor::MESSAGE_ANNOTATIONS => {
                return map(rest.get(..bytes).unwrap_or_default()).unwrap_or_default();
            }
            _ => break,
        }
    }
    Annotations::default()
}

/// How many fields the header of what was kept has at most: most have a durable at most, so that the others need not be
/// looked for.
#[inline]
pub(crate) fn header_fields_max(kept: &[u8]) -> u8 {
    const HEADER: u8 = descriptor::HEADER as u8;
    match kept {
        [] | [code::DESCRIBED, code::SMALL_ULONG, HEADER, code::LIST0, ..] => 0,
        [code::DESCRIBED, code::SMALL_ULONG, HEADER, code::LIST8, _, count, ..] => *count,
        [code::DESCRIBED, code::SMALL_ULONG, other, ..] if *other != HEADER => 0,
        _ => u8::MAX,
    }
}

/// The descriptor of the section in front, and how many bytes of it are kept there: of data its head alone.
fn section(bytes: &[u8]) -> Option<(u64, usize)> {
    if let Some(SmallHead { descriptor, head_bytes, data_bytes, .. }) = SmallHead::of(bytes) {
        let is_data = descriptor == descriptor::DATA;
        return Some((descriptor, if is_data { head_bytes } else { head_bytes.checked_add(data_bytes)? }));
    }
    let mut reader = Reader::new(bytes);
    if reader.is_empty() || reader.octet().ok()? != code::DESCRIBED {
        return None;
    }
    let descriptor = descriptor::code(&Reader::new(reader.span().ok()?).shallow().ok()?)?;
    if descriptor == descriptor::DATA {
        return Some((descriptor, data_head(bytes)?));
    }
    reader.span().ok()?;
    Some((descriptor, bytes.len() - reader.rest().len()))
}

fn composite<'a, T: Composite<'a>>(section: &'a [u8]) -> Option<T> {
    if section.is_empty() { None } else { T::decode(&mut Reader::new(section)).ok() }
}

fn map<'a, T: Field<'a>>(section: &'a [u8]) -> Option<T> {
    let mut reader = Reader::new(section);
    if reader.is_empty() {
        return None;
    }
    match reader.shallow().ok()? {
        Value::Described(described) => T::from_value(described.value()).ok(),
        _ => None,
    }
}
