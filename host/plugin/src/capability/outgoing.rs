//! Messages that plugins make.

use crate::{
    bindings::v0_2::leveret::routing::types::OutgoingMessage,
    guest::lift::{self, ValuesLeft},
};
use leveret_model::{Change, Form, Name, OwnedMessage, Patch};
use std::sync::Arc;

/// The longest body, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A message of these headers, properties and body.
///
/// # Errors
/// What is wrong with it; the guest traps with that.
pub(super) fn message(
    form: Option<&'static dyn Form>,
    exchange: Name,
    routing_key: Name,
    message: OutgoingMessage,
) -> wasmtime::Result<OwnedMessage> {
    let wrong = |what: String| wasmtime::Error::msg(format!("an outgoing message: {what}"));
    let form = form.ok_or_else(|| wrong(String::from("this host knows no form for it")))?;
    if message.body.len() > BODY_BYTES_MAX {
        return Err(wrong(format!("a body of {} bytes; the most is {BODY_BYTES_MAX}", message.body.len())));
    }
    let (mut left, mut of_properties) = (ValuesLeft::default(), ValuesLeft::default());
    let headers = message.headers.into_iter().map(|field| {
        let (name, value) = lift::field(field, &mut left)?;
        Ok(Change::SetHeader { name, value })
    });
    let properties = message.properties.into_iter().map(|(property, value)| {
        let value = lift::value(value, &mut of_properties)?;
        Ok(Change::SetProperty { property: lift::property(property), value })
    });
    let patch = headers.chain(properties).collect::<Result<Patch, String>>().map_err(wrong)?;
    let mut encoded = Vec::new();
    form.patch(form.empty(), &patch, &mut encoded).map_err(|error| wrong(error.to_string()))?;
    Ok(OwnedMessage { exchange, routing_key, form, properties: encoded.into(), body: message.body.into() })
}

/// A copy of the message on hand.
///
/// # Errors
/// If there is none; the guest traps with that.
pub(super) fn copy(on_hand: Option<&Arc<OwnedMessage>>) -> wasmtime::Result<OwnedMessage> {
    let message = on_hand.ok_or_else(|| wasmtime::Error::msg("there is no message on hand in this call"))?;
    Ok(OwnedMessage::clone(message))
}
