//! Where the sections of an encoded message lie, found while it comes.

use crate::{
    descriptor,
    types::{
        DecodeError, Reader, SmallHead,
        code::{self, Width},
    },
};

/// Room for what stands in front of a section's content: a zero byte and a descriptor. The longest that there is,
/// `amqp:application-properties:map` as a large symbol, has 37 bytes.
const HEAD_BYTES_MAX: usize = 40;

/// A kind of section (section 3.2), in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// 3.2.1
    Header,
    /// 3.2.2
    DeliveryAnnotations,
    /// 3.2.3
    MessageAnnotations,
    /// 3.2.4
    Properties,
    /// 3.2.5
    ApplicationProperties,
    /// 3.2.6
    Data,
    /// 3.2.7
    AmqpSequence,
    /// 3.2.8
    AmqpValue,
    /// 3.2.9
    Footer,
}

impl Section {
    fn of(descriptor: u64) -> Option<Self> {
        Some(match descriptor {
            descriptor::HEADER => Self::Header,
            descriptor::DELIVERY_ANNOTATIONS => Self::DeliveryAnnotations,
            descriptor::MESSAGE_ANNOTATIONS => Self::MessageAnnotations,
            descriptor::PROPERTIES => Self::Properties,
            descriptor::APPLICATION_PROPERTIES => Self::ApplicationProperties,
            descriptor::DATA => Self::Data,
            descriptor::AMQP_SEQUENCE => Self::AmqpSequence,
            descriptor::AMQP_VALUE => Self::AmqpValue,
            descriptor::FOOTER => Self::Footer,
            _ => return None,
        })
    }

    /// As the specification names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::DeliveryAnnotations => "delivery-annotations",
            Self::MessageAnnotations => "message-annotations",
            Self::Properties => "properties",
            Self::ApplicationProperties => "application-properties",
            Self::Data => "data",
            Self::AmqpSequence => "amqp-sequence",
            Self::AmqpValue => "amqp-value",
            Self::Footer => "footer",
        }
    }

    /// Whether it is part of the body.
    #[must_use]
    pub fn is_body(self) -> bool {
        matches!(self, Self::Data | Self::AmqpSequence | Self::AmqpValue)
    }

    /// Whether it may come behind another one: data and sequences several times, all others once, and of the
    /// bodies one kind.
    fn may_follow(self, last: Self) -> bool {
        if self.is_body() && last.is_body() { self == last && self != Self::AmqpValue } else { self > last }
    }

    /// Whether content may begin with this code.
    fn takes(self, code: u8) -> bool {
        match self {
            Self::Header | Self::Properties | Self::AmqpSequence => {
                matches!(code, code::LIST0 | code::LIST8 | code::LIST32)
            }
            Self::DeliveryAnnotations
            | Self::MessageAnnotations
            | Self::ApplicationProperties
            | Self::Footer => matches!(code, code::MAP8 | code::MAP32),
            Self::Data => matches!(code, code::VBIN8 | code::VBIN32),
            Self::AmqpValue => true,
        }
    }
}

/// A range of a message's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// Behind the last one.
    pub end: usize,
}

impl Span {
    /// These bytes of a message; empty if it has not so many.
    #[must_use]
    pub fn of(self, message: &[u8]) -> &[u8] {
        message.get(self.start..self.end).unwrap_or_default()
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// Where the body lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodySpan {
    /// The kind of its sections.
    pub kind: Section,
    /// How many there are.
    pub sections: u32,
    /// All of them, back to back.
    pub span: Span,
}

/// Where the sections of a message lie, descriptors included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// 3.2.1
    pub header: Option<Span>,
    /// 3.2.2
    pub delivery_annotations: Option<Span>,
    /// 3.2.3
    pub message_annotations: Option<Span>,
    /// 3.2.4
    pub properties: Option<Span>,
    /// 3.2.5
    pub application_properties: Option<Span>,
    /// 3.2.6 to 3.2.8. The specification wants one; there are clients that send none.
    pub body: Option<BodySpan>,
    /// 3.2.9
    pub footer: Option<Span>,
    /// How many bytes the message has.
    pub bytes: usize,
}

impl Layout {
    /// Of a message that is there as a whole. What is in its sections is not looked at.
    ///
    /// # Errors
    /// As [`Scanner::feed`] and [`Scanner::finish`].
    #[inline]
    pub fn of(message: &[u8]) -> Result<Self, DecodeError> {
        let mut layout = Self { bytes: message.len(), ..Self::default() };
        match layout.glance(message) {
            Some(()) => Ok(layout),
            None => Self::scanned(message),
        }
    }

    /// Notes the sections of a message if they are written as most write them, and in order.
    fn glance(&mut self, message: &[u8]) -> Option<()> {
        let (mut start, mut last): (_, Option<Section>) = (0, None);
        while start < message.len() {
            let head = SmallHead::of(message.get(start..)?)?;
            let section = Section::of(head.descriptor)?;
            let is_next = last.is_none_or(|last| section.may_follow(last));
            let end = start.checked_add(head.head_bytes)?.checked_add(head.data_bytes)?;
            if !is_next || !section.takes(head.code) || end > message.len() {
                return None;
            }
            self.note(section, Span { start, end });
            (start, last) = (end, Some(section));
        }
        Some(())
    }

    fn scanned(message: &[u8]) -> Result<Self, DecodeError> {
        let mut scanner = Scanner::default();
        scanner.feed(message)?;
        scanner.finish()
    }

    /// The bare message (section 3.2): properties, application-properties and body. Nobody on the way changes it.
    #[must_use]
    pub fn bare(&self) -> Span {
        let before = [self.message_annotations, self.delivery_annotations, self.header];
        let start = before.into_iter().flatten().next().map_or(0, |span| span.end);
        Span { start, end: self.footer.map_or(self.bytes, |footer| footer.start) }
    }

    fn note(&mut self, section: Section, span: Span) {
        let place = match section {
            Section::Header => &mut self.header,
            Section::DeliveryAnnotations => &mut self.delivery_annotations,
            Section::MessageAnnotations => &mut self.message_annotations,
            Section::Properties => &mut self.properties,
            Section::ApplicationProperties => &mut self.application_properties,
            Section::Footer => &mut self.footer,
            Section::Data | Section::AmqpSequence | Section::AmqpValue => {
                let body = self.body.get_or_insert(BodySpan { kind: section, sections: 0, span });
                body.sections = body.sections.saturating_add(1);
                body.span.end = span.end;
                return;
            }
        };
        *place = Some(span);
    }
}

/// Finds the sections of a message whose bytes come one after another, as in several transfers. It keeps none of
/// them but the beginning of a section that is cut, and takes time for each value's head, not for its bytes.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    layout: Layout,
    /// The section that is read now, once its descriptor is known.
    section: Option<Section>,
    last: Option<Section>,
    /// Where it begins.
    start: usize,
    /// How many values are to come until it is whole. More than one only where a body has descriptors.
    values: usize,
    /// Bytes that belong to the value at hand.
    skip: usize,
    /// What was read of a descriptor or a constructor that is not whole.
    head: Head,
}

#[derive(Clone, Debug)]
struct Head {
    bytes: [u8; HEAD_BYTES_MAX],
    length: usize,
}

impl Default for Head {
    fn default() -> Self {
        Self { bytes: [0; HEAD_BYTES_MAX], length: 0 }
    }
}

impl Head {
    fn read(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Scanner {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// If they are no section, or one that must not come here. Then the message is of no use.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut rest = bytes;
        loop {
            let skipped = self.skip.min(rest.len());
            self.skip -= skipped;
            self.layout.bytes += skipped;
            rest = rest.get(skipped..).unwrap_or_default();
            if self.skip == 0 && self.values == 0 {
                self.end_section();
            }
            let Some((next, after)) = rest.split_first() else { return Ok(()) };
            rest = after;
            self.layout.bytes += 1;
            let Some(place) = self.head.bytes.get_mut(self.head.length) else {
                return Err(DecodeError::Descriptor(0));
            };
            *place = *next;
            self.head.length += 1;
            let is_whole = match self.section {
                None => self.begin_section()?,
                Some(section) => self.begin_value(section)?,
            };
            if is_whole {
                self.head.length = 0;
            }
        }
    }

    /// Where the body begins, once its first section does.
    #[must_use]
    pub fn body_start(&self) -> Option<usize> {
        let begins = self.section.filter(|section| section.is_body()).map(|_| self.start);
        self.layout.body.map(|body| body.span.start).or(begins)
    }

    /// Where the footer begins, once it does.
    #[must_use]
    pub fn footer_start(&self) -> Option<usize> {
        let begins = self.section.filter(|section| *section == Section::Footer).map(|_| self.start);
        self.layout.footer.map(|footer| footer.start).or(begins)
    }

    /// No more bytes come.
    ///
    /// # Errors
    /// If the last section is cut short.
    pub fn finish(self) -> Result<Layout, DecodeError> {
        if self.section.is_some() || self.head.length > 0 {
            Err(DecodeError::Truncated)
        } else {
            Ok(self.layout)
        }
    }

    fn end_section(&mut self) {
        if let Some(section) = self.section.take() {
            self.layout.note(section, Span { start: self.start, end: self.layout.bytes });
            self.last = Some(section);
        }
    }

    /// Whether the head is a zero byte and a whole descriptor.
    fn begin_section(&mut self) -> Result<bool, DecodeError> {
        let head = self.head.read();
        let Some((&code::DESCRIBED, descriptor)) = head.split_first() else {
            return Err(DecodeError::NotDescribed);
        };
        let descriptor = match Reader::new(descriptor).shallow() {
            Err(DecodeError::Truncated) => return Ok(false),
            other => descriptor::code(&other?).ok_or(DecodeError::Descriptor(0))?,
        };
        let section = Section::of(descriptor).ok_or(DecodeError::Descriptor(descriptor))?;
        if self.last.is_some_and(|last| !section.may_follow(last)) {
            return Err(DecodeError::SectionOrder(section.name()));
        }
        self.start = self.layout.bytes - head.len();
        self.section = Some(section);
        self.values = 1;
        Ok(true)
    }

    /// Whether the head is a whole constructor, with the size of the data where it has one.
    fn begin_value(&mut self, section: Section) -> Result<bool, DecodeError> {
        let Some((code, size)) = self.head.read().split_first() else { return Ok(false) };
        if !section.takes(*code) {
            return Err(DecodeError::Content(section.name()));
        }
        if *code == code::DESCRIBED {
            // Its descriptor, and what it describes.
            self.values += 1;
            return Ok(true);
        }
        self.skip = match (code::width(*code).ok_or(DecodeError::UnknownCode(*code))?, size) {
            (Width::Fixed(bytes), _) => bytes,
            (Width::Sized8, [bytes]) => usize::from(*bytes),
            (Width::Sized32, [a, b, c, d]) => {
                usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX)
            }
            _ => return Ok(false),
        };
        self.values -= 1;
        Ok(true)
    }
}
