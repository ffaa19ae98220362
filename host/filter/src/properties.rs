//! Property filters: fields that a message must have ("AMQP Filter Expressions Version 1.0", sections 4.1 and 4.2).

use crate::{Field, Message, Property, PropertyError, Value};
use alloc::{borrow::Cow, boxed::Box, string::String, vec::Vec};

/// How many fields a property filter has at most, as on RabbitMQ.
pub const FIELDS_MAX: usize = 16;

/// Fields that a message must have, each with the value that it must have.
///
/// Numbers match numbers of another type that are equal, everything else what is equal. A string with `&p:` in front
/// matches what begins with the rest of it, one with `&s:` what ends with it; `&&` stands for `&`.
#[derive(Clone, Debug)]
pub struct PropertyFilter(Vec<(Field, Reference)>);

#[derive(Clone, Debug)]
enum Reference {
    /// Every value matches. An application-property must be there, though.
    Any,
    Equal(Value<'static>),
    Prefix(Box<str>),
    Suffix(Box<str>),
}

impl PropertyFilter {
    /// Of the fields of a properties filter, by their names; a value that is null is `None`.
    ///
    /// # Errors
    /// If there are no fields or too many, or one of them is no property or never equal to what it is compared with.
    pub fn of_properties<'n>(
        fields: impl IntoIterator<Item = (&'n str, Option<Value<'n>>)>,
    ) -> Result<Self, PropertyError> {
        Self::of(fields, |name, value| {
            let property =
                Property::named(name).ok_or_else(|| PropertyError::UnknownProperty(String::from(name)))?;
            let (is_fit, expected) = fits(property, value);
            if !is_fit {
                return Err(PropertyError::Type { property: property.name(), expected });
            }
            Ok(Field::Property(property))
        })
    }

    /// Of the fields of an application-properties filter, by their names; a value that is null is `None`.
    ///
    /// # Errors
    /// If there are no fields or too many, or one of them is compared with a list or the like.
    pub fn of_application_properties<'n>(
        fields: impl IntoIterator<Item = (&'n str, Option<Value<'n>>)>,
    ) -> Result<Self, PropertyError> {
        Self::of(fields, |name, _| Ok(Field::ApplicationProperty(name.into())))
    }

    fn of<'n>(
        fields: impl IntoIterator<Item = (&'n str, Option<Value<'n>>)>,
        field: impl Fn(&str, Option<&Value<'n>>) -> Result<Field, PropertyError>,
    ) -> Result<Self, PropertyError> {
        let mut pairs = Vec::new();
        for (name, value) in fields {
            if pairs.len() == FIELDS_MAX {
                return Err(PropertyError::TooManyFields);
            }
            pairs.push((field(name, value.as_ref())?, Reference::new(name, value)?));
        }
        if pairs.is_empty() { Err(PropertyError::NoFields) } else { Ok(Self(pairs)) }
    }

    /// Whether a message has all these fields, with values that match.
    #[must_use]
    pub fn matches(&self, message: &dyn Message) -> bool {
        self.0.iter().all(|(field, reference)| match message.field(field) {
            Some(value) => reference.matches(&value),
            None => matches!((field, reference), (Field::Property(_), Reference::Any)),
        })
    }
}

/// Whether a property can be compared with a value, and what it can be compared with.
fn fits(property: Property, value: Option<&Value<'_>>) -> (bool, &'static str) {
    let Some(value) = value else { return (true, "") };
    match property {
        Property::MessageId | Property::CorrelationId => (
            matches!(value, Value::Text(_) | Value::Binary(_) | Value::Uuid(_) | Value::Integer(_)),
            "a string, a binary, a uuid or a ulong",
        ),
        Property::UserId => (matches!(value, Value::Binary(_) | Value::Text(_)), "a binary"),
        Property::AbsoluteExpiryTime | Property::CreationTime => {
            (matches!(value, Value::Integer(_)), "a timestamp")
        }
        Property::GroupSequence => (matches!(value, Value::Integer(_)), "a uint"),
        Property::To
        | Property::Subject
        | Property::ReplyTo
        | Property::ContentType
        | Property::ContentEncoding
        | Property::GroupId
        | Property::ReplyToGroupId => (matches!(value, Value::Text(_)), "a string"),
    }
}

impl Reference {
    fn new(name: &str, value: Option<Value<'_>>) -> Result<Self, PropertyError> {
        Ok(match value {
            None => Self::Any,
            Some(Value::Text(text)) => Self::of_text(&text)?,
            Some(Value::Boolean(boolean)) => Self::Equal(Value::Boolean(boolean)),
            Some(Value::Integer(integer)) => Self::Equal(Value::Integer(integer)),
            Some(Value::Real(real)) => Self::Equal(Value::Real(real)),
            Some(Value::Binary(bytes)) => Self::Equal(Value::Binary(Cow::Owned(bytes.into_owned()))),
            Some(Value::Uuid(uuid)) => Self::Equal(Value::Uuid(uuid)),
            Some(Value::Opaque) => return Err(PropertyError::Value(String::from(name))),
        })
    }

    fn of_text(text: &str) -> Result<Self, PropertyError> {
        let literal = |text: &str| Self::Equal(Value::Text(Cow::Owned(String::from(text))));
        let Some(modified) = text.strip_prefix('&') else { return Ok(literal(text)) };
        if let Some(prefix) = modified.strip_prefix("p:") {
            return Ok(Self::Prefix(prefix.into()));
        }
        if let Some(suffix) = modified.strip_prefix("s:") {
            return Ok(Self::Suffix(suffix.into()));
        }
        if modified.starts_with('&') {
            return Ok(literal(modified));
        }
        Err(PropertyError::Modifier(String::from(text)))
    }

    fn matches(&self, value: &Value<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Equal(reference) => reference.equals(value),
            Self::Prefix(prefix) => matches!(value, Value::Text(text) if text.starts_with(&**prefix)),
            Self::Suffix(suffix) => matches!(value, Value::Text(text) if text.ends_with(&**suffix)),
        }
    }
}
