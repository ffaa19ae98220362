//! A message in a queue, as filters ask about it.

use super::fields::{entry_of, field_of, plain};
use crate::{
    descriptor,
    form::PROTOCOL,
    types::{Reader, Symbol, Value, code},
};
use alloc::string::String;
use leveret_filter::{Field, Header, Message, Value as Plain};
use leveret_model::MessageView;

/// The annotation that says how often a message failed.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// A message in a queue. If it came by AMQP 1.0 its properties are its sections without the body, and its fields are read
/// where they lie; if it came by another protocol it has the fields that a conversion would give it.
#[derive(Clone, Copy, Debug)]
pub struct Queued<'v> {
    view: MessageView<'v>,
    /// Of one that came by AMQP 1.0.
    sections: Option<Sections<'v>>,
    is_redelivered: bool,
}

/// Sections with their descriptors; empty where they are not there.
#[derive(Clone, Copy, Debug, Default)]
struct Sections<'v> {
    header: &'v [u8],
    annotations: &'v [u8],
    properties: &'v [u8],
    application: &'v [u8],
    footer: &'v [u8],
}

impl<'v> Queued<'v> {
    /// A message as its queue has it, and whether somebody had it before.
    #[must_use]
    pub fn new(view: MessageView<'v>, is_redelivered: bool) -> Self {
        let is_ours = view.near_form().protocol() == PROTOCOL;
        Self { view, sections: is_ours.then(|| Sections::of(view.properties)), is_redelivered }
    }

    /// What receivers are told of a message, and nobody has said in it.
    fn told(&self, field: &Field) -> Option<Plain<'_>> {
        match field {
            Field::Header(Header::FirstAcquirer) => Some(Plain::Boolean(!self.is_redelivered)),
            Field::MessageAnnotation(name) => match &**name {
                "x-exchange" => Some(Plain::Text(String::from_utf8_lossy(self.view.exchange))),
                "x-routing-key" => Some(Plain::Text(String::from_utf8_lossy(self.view.routing_key))),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Message for Queued<'_> {
    fn field(&self, field: &Field) -> Option<Plain<'_>> {
        if let Some(told) = self.told(field) {
            return Some(told);
        }
        let Some(sections) = &self.sections else { return self.view.field(field) };
        let annotation = |section, name: &str| entry_of(section, &Value::Symbol(Symbol::new(name)?));
        plain(match field {
            Field::Header(Header::DeliveryCount) => annotation(sections.annotations, DELIVERY_COUNT),
            Field::Header(header) => field_of(sections.header, *header as usize),
            Field::Property(property) => field_of(sections.properties, *property as usize),
            Field::MessageAnnotation(name) => annotation(sections.annotations, name),
            Field::ApplicationProperty(name) => entry_of(sections.application, &Value::String(name)),
            Field::Footer(name) => annotation(sections.footer, name),
            // They were for the hop that is over.
            Field::DeliveryAnnotation(_) => None,
        }?)
    }
}

impl<'v> Sections<'v> {
    /// Of what is kept beside the body. Of a data section only what stands in front of its content is there.
    fn of(kept: &'v [u8]) -> Self {
        let mut sections = Self::default();
        let mut rest = kept;
        while let Some((descriptor, bytes)) = section(rest) {
            let Some((section, after)) = rest.split_at_checked(bytes) else { break };
            match descriptor {
                descriptor::HEADER => sections.header = section,
                descriptor::MESSAGE_ANNOTATIONS => sections.annotations = section,
                descriptor::PROPERTIES => sections.properties = section,
                descriptor::APPLICATION_PROPERTIES => sections.application = section,
                descriptor::FOOTER => sections.footer = section,
                _ => {}
            }
            rest = after;
        }
        sections
    }
}

/// The descriptor of the section in front, and how many bytes of it are there.
fn section(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut reader = Reader::new(bytes);
    if reader.octet().ok()? != code::DESCRIBED {
        return None;
    }
    let descriptor = descriptor::code(&Reader::new(reader.span().ok()?).shallow().ok()?)?;
    if descriptor != descriptor::DATA {
        reader.span().ok()?;
        return Some((descriptor, bytes.len() - reader.rest().len()));
    }
    let length_bytes = if reader.octet().ok()? == code::VBIN8 { 1 } else { 4 };
    Some((descriptor, bytes.len() - reader.rest().len() + length_bytes))
}
