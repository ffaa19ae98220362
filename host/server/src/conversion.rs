//! Messages from one protocol's form to the other's, by RabbitMQ's tables of conversions.
//!
//! A form says what of a message plugins see, and makes changes that are said in the same words; so a message is
//! converted by making an empty one of the other form what the first one says it is. What the other form cannot say is
//! left out.
//!
//! ```text
//! AMQP 1.0 to 0-9-1   see leveret_amqp10::form::project; several data sections are one body; a body that is not data
//!                     stays encoded, and its type is amqp-1.0, and so does a large one of several data sections
//! AMQP 0-9-1 to 1.0   headers x-* are annotations, CC is x-cc, others are application-properties, but for lists and
//!                     tables; the body is a data section, or what it encodes if its type is amqp-1.0
//! ```

use leveret_model::{
    Change, Form, HeaderSelection, MessageView, Name, Patch, PatchError, Property, Value, flat,
};
use std::borrow::Cow;

#[cfg(test)]
mod tests;

/// The type of a body that is encoded in AMQP 1.0.
const ENCODED_TYPE: &str = "amqp-1.0";

/// Whether a message's form is this one.
#[inline]
pub(crate) fn is_of(form: &'static dyn Form, this: &'static dyn Form) -> bool {
    // Where the pointers differ the protocols are compared.
    core::ptr::eq(form, this) || form.protocol() == this.protocol()
}

/// Properties and body as receivers of AMQP 0-9-1 see them.
pub(crate) fn to_amqp091<'a>(message: &MessageView<'a>) -> (Cow<'a, [u8]>, Cow<'a, [u8]>) {
    if is_of(message.form, leveret_amqp091::form::HIDING) {
        let shown = leveret_amqp091::more_keys::shown(message.properties);
        return (Cow::Owned(shown), Cow::Borrowed(message.body));
    }
    let joined = match is_of(message.form, leveret_amqp10::form::FORM) {
        true => leveret_amqp10::form::joined_data(message.properties, message.body),
        false => None,
    };
    let mut changes = changes_of(message, |_| true);
    if joined.is_some() {
        // It is not encoded any more.
        let property = Property::MessageType;
        changes
            .retain(|change| !matches!(change, Change::SetProperty { property: it, .. } if *it == property));
        let said = leveret_amqp10::form::said_type(message.properties);
        changes
            .extend(said.map(|said| Change::SetProperty { property, value: Value::Text(said.to_owned()) }));
    }
    let body = joined.map_or(Cow::Borrowed(message.body), Cow::Owned);
    (Cow::Owned(made(leveret_amqp091::form::FORM, changes)), body)
}

/// Properties and body as a message of AMQP 1.0 is kept.
pub(crate) fn to_amqp10<'a>(message: &MessageView<'a>) -> (Cow<'a, [u8]>, Cow<'a, [u8]>) {
    let is_encoded = message.property(Property::MessageType).as_ref().and_then(Value::as_text)
        == Some(ENCODED_TYPE)
        && leveret_amqp10::form::is_body(message.body);
    let mut changes = changes_of(message, |property| !is_encoded || property != Property::MessageType);
    changes.retain(|change| match change {
        Change::SetHeader { name, value } => is_said_in_amqp10(name, value),
        _ => true,
    });
    let mut properties = made(leveret_amqp10::form::FORM, changes);
    if is_encoded {
        // The sections say themselves how long they are.
        properties.truncate(properties.len() - leveret_amqp10::form::NONE.len());
    }
    (Cow::Owned(properties), Cow::Borrowed(message.body))
}

fn is_said_in_amqp10(name: &Name, value: &Value) -> bool {
    let is_annotation = name.starts_with(b"x-") || name.as_bytes() == b"CC";
    is_annotation || !matches!(value, Value::List(_) | Value::Map(_))
}

/// What a message says, as changes of one that says nothing.
fn changes_of(message: &MessageView<'_>, takes: impl Fn(Property) -> bool) -> Vec<Change> {
    let mut changes = Vec::new();
    for property in Property::ALL.into_iter().filter(|property| takes(*property)) {
        if let Some(value) = message.property(property) {
            changes.push(Change::SetProperty { property, value });
        }
    }
    let mut list = Vec::new();
    message.form.put_headers(message.properties, &HeaderSelection::All, &mut list);
    let mut rest = list.get(2..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first() {
        let Some((name, value)) = after.split_at_checked(usize::from(*length)) else { break };
        rest = value;
        let Some(value) = flat::take_value(&mut rest) else { break };
        changes.push(Change::SetHeader { name: Name::cut(name), value });
    }
    changes
}

/// Properties of a form that say so much; what it cannot say is left out.
fn made(form: &'static dyn Form, mut changes: Vec<Change>) -> Vec<u8> {
    loop {
        let patch: Patch = changes.iter().cloned().collect();
        let mut properties = Vec::new();
        let error = match form.patch(form.empty(), &patch, &mut properties) {
            Ok(()) => return properties,
            Err(error) => error,
        };
        let before = changes.len();
        match error {
            PatchError::Header { .. } => {
                // All of them at once: a peer may send tens of thousands.
                let mut alone = Vec::new();
                changes.retain(|change| {
                    let patch: Patch = [change.clone()].into_iter().collect();
                    alone.clear();
                    !matches!(change, Change::SetHeader { .. })
                        || form.patch(form.empty(), &patch, &mut alone).is_ok()
                });
            }
            PatchError::PropertyClass { property, .. } | PatchError::PropertyValue { property, .. } => {
                changes.retain(
                    |change| !matches!(change, Change::SetProperty { property: its, .. } if *its == property),
                );
            }
            PatchError::TooLarge { .. } => {
                changes.retain(|change| !matches!(change, Change::SetHeader { .. }));
            }
        }
        if changes.len() == before {
            return form.empty().to_vec();
        }
    }
}
