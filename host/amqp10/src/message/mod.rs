//! An encoded message (section 3.2): its sections where they lie, and changes that leave the bare message as it is.
//!
//! ```text
//! message  header? delivery-annotations? message-annotations? bare footer?
//! bare     properties? application-properties? body
//! body     data+ | amqp-sequence+ | amqp-value
//! section  00, descriptor (70 to 78), a list, a map, bytes, or any value
//! ```
//!
//! *In:* the bytes of a message, at once ([`Message::new`]) or as transfers bring them ([`Scanner`]). *Out:* where each
//! section lies ([`Layout`]), what is in it ([`Message`]), and a message with other annotations ([`Message::splice`]),
//! in pieces that are not copied.
//!
//! *Invariants:* what was checked is read without errors; splicing keeps the bare message byte for byte; of
//! annotations that are patched, those that are not named stay byte for byte, in their order.

mod layout;
mod patch;

pub use layout::{BodySpan, Layout, Scanner, Section, Span};
pub use patch::{AnnotationChange, patch_annotations};

use crate::{
    composite::{Annotations, ApplicationMap, Composite, Field, Unfit},
    messaging::{Header, Properties},
    types::{DecodeError, List, Reader, Value},
};

/// A message whose sections were checked, but for what is in a body's.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    layout: Layout,
}

/// What a body says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// None: the message has no body.
    None,
    /// Data sections, back to back.
    Data(Bodies<'a>),
    /// Sequences, back to back.
    Sequence(Bodies<'a>),
    /// The one value, encoded.
    Value(&'a [u8]),
}

/// What becomes of a section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edit<'a> {
    /// It stays.
    #[default]
    Keep,
    /// It is this one from now on, encoded with its descriptor. Where that is nothing it goes.
    Put(&'a [u8]),
}

/// What becomes of the sections around the bare message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edits<'a> {
    /// Of the header.
    pub header: Edit<'a>,
    /// Of the delivery-annotations.
    pub delivery_annotations: Edit<'a>,
    /// Of the message-annotations.
    pub message_annotations: Edit<'a>,
    /// Of the footer.
    pub footer: Edit<'a>,
}

impl Layout {
    /// Of a message that is there as a whole, whose sections are as they should be.
    ///
    /// # Errors
    /// As [`Message::new`].
    #[inline]
    pub(crate) fn checked(message: &[u8]) -> Result<Self, DecodeError> {
        let layout = Self::of(message)?;
        layout.check(message)?;
        Ok(layout)
    }

    /// Whether what is in the sections makes sense.
    fn check(&self, message: &[u8]) -> Result<(), DecodeError> {
        let part = |span: Option<Span>| span.map(|span| span.of(message));
        part(self.header).map(whole::<Header>).transpose()?;
        part(self.delivery_annotations).map(map::<Annotations<'_>>).transpose()?;
        part(self.message_annotations).map(map::<Annotations<'_>>).transpose()?;
        part(self.properties).map(whole::<Properties<'_>>).transpose()?;
        part(self.application_properties).map(map::<ApplicationMap<'_>>).transpose()?;
        part(self.footer).map(map::<Annotations<'_>>).transpose()?;
        Ok(())
    }
}

impl<'a> Message<'a> {
    /// Finds and checks the sections of a message that is there as a whole.
    ///
    /// # Errors
    /// If one of them makes no sense or comes where it must not. What is in the body is not looked at, but that it
    /// is of its kind.
    pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let layout = Layout::checked(bytes)?;
        Ok(Self { bytes, layout })
    }

    /// As [`Self::new`], of a message whose sections a [`Scanner`] has found.
    ///
    /// # Errors
    /// If a section makes no sense.
    pub fn with_layout(bytes: &'a [u8], layout: Layout) -> Result<Self, DecodeError> {
        layout.check(bytes)?;
        Ok(Self { bytes, layout })
    }

    pub(crate) fn part(&self, span: Option<Span>) -> Option<&'a [u8]> {
        span.map(|span| span.of(self.bytes))
    }

    /// Where its sections lie.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Its header; one that says nothing where there is none.
    #[must_use]
    pub fn header(&self) -> Header {
        self.part(self.layout.header).and_then(|section| whole(section).ok()).unwrap_or_default()
    }

    /// Its delivery-annotations.
    #[must_use]
    pub fn delivery_annotations(&self) -> Annotations<'a> {
        self.part(self.layout.delivery_annotations).and_then(|section| map(section).ok()).unwrap_or_default()
    }

    /// Its message-annotations.
    #[must_use]
    pub fn message_annotations(&self) -> Annotations<'a> {
        self.part(self.layout.message_annotations).and_then(|section| map(section).ok()).unwrap_or_default()
    }

    /// Its properties; none of them where there is no such section.
    #[must_use]
    pub fn properties(&self) -> Properties<'a> {
        self.part(self.layout.properties).and_then(|section| whole(section).ok()).unwrap_or_default()
    }

    /// Its application-properties.
    #[must_use]
    pub fn application_properties(&self) -> ApplicationMap<'a> {
        self.part(self.layout.application_properties)
            .and_then(|section| map(section).ok())
            .unwrap_or_default()
    }

    /// Its footer.
    #[must_use]
    pub fn footer(&self) -> Annotations<'a> {
        self.part(self.layout.footer).and_then(|section| map(section).ok()).unwrap_or_default()
    }

    /// Its body.
    #[must_use]
    pub fn body(&self) -> Body<'a> {
        let Some(body) = self.layout.body else { return Body::None };
        let bodies = Bodies { sections: body.span.of(self.bytes) };
        match body.kind {
            Section::Data => Body::Data(bodies),
            Section::AmqpSequence => Body::Sequence(bodies),
            _ => Body::Value(content(bodies.sections).unwrap_or_default()),
        }
    }

    /// The bare message.
    #[must_use]
    pub fn bare(&self) -> &'a [u8] {
        self.layout.bare().of(self.bytes)
    }

    /// The message with other sections around its bare message, as pieces that are to be sent one after another:
    /// header, delivery-annotations, message-annotations, bare message, footer.
    #[must_use]
    pub fn splice(&self, edits: &Edits<'a>) -> [&'a [u8]; 5] {
        let edited = |edit: Edit<'a>, span: Option<Span>| match edit {
            Edit::Keep => self.part(span).unwrap_or_default(),
            Edit::Put(section) => section,
        };
        [
            edited(edits.header, self.layout.header),
            edited(edits.delivery_annotations, self.layout.delivery_annotations),
            edited(edits.message_annotations, self.layout.message_annotations),
            self.bare(),
            edited(edits.footer, self.layout.footer),
        ]
    }
}

/// The sections of a body, one kind of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bodies<'a> {
    sections: &'a [u8],
}

impl<'a> Bodies<'a> {
    fn values(self) -> impl Iterator<Item = Result<Value<'a>, DecodeError>> {
        let mut reader = Reader::new(self.sections);
        core::iter::from_fn(move || (!reader.is_empty()).then(|| described(&mut reader)))
    }

    /// The bytes of data sections, one after another.
    pub fn data(self) -> impl Iterator<Item = &'a [u8]> {
        self.values().map_while(|value| if let Ok(Value::Binary(bytes)) = value { Some(bytes) } else { None })
    }

    /// The lists of sequences, one after another.
    ///
    /// An item is an error, and the last, where a list makes no sense.
    pub fn lists(self) -> impl Iterator<Item = Result<List<'a>, DecodeError>> {
        let mut is_over = false;
        self.values().map_while(move |value| match value {
            _ if is_over => None,
            Ok(Value::List(list)) => Some(Ok(list)),
            Ok(_) => None,
            Err(error) => {
                is_over = true;
                Some(Err(error))
            }
        })
    }
}

/// The value that a descriptor describes, checked.
fn described<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
    reader.octet()?;
    reader.span()?;
    reader.value()
}

/// What follows the descriptor.
fn content(section: &[u8]) -> Result<&[u8], DecodeError> {
    let mut reader = Reader::new(section);
    reader.octet()?;
    reader.span()?;
    Ok(reader.rest())
}

/// A section that is a composite.
fn whole<'a, T: Composite<'a>>(section: &'a [u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(section);
    let composite = T::decode(&mut reader)?;
    if reader.is_empty() { Ok(composite) } else { Err(DecodeError::Trailing(T::NAME)) }
}

/// A section that is a map with keys of some types.
fn map<'a, T: Field<'a>>(section: &'a [u8]) -> Result<T, DecodeError> {
    let value = described(&mut Reader::new(section))?;
    T::from_value(value).map_err(|unfit| match unfit {
        Unfit::Within(error) => error,
        Unfit::Type | Unfit::Value => DecodeError::Content("a key or a value of a section"),
    })
}
