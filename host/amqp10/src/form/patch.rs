//! Changes of headers and properties, made in the encoded form: what is not changed is copied as it lies there.
//!
//! *In:* properties as [`super`] lays them out, and a [`Patch`] in the words that `project` speaks. *Out:* the same with
//! the changes made. Headers whose names begin with `x-`, and `CC`, are annotations; others are application properties,
//! as those are that the message has already. Integers are written as `long` or `ulong`, reals as `double`, texts as
//! `string`. Where the bare message changes (section 3.2) the footer goes: what it says of it, a signature or a hash,
//! would be wrong.

use super::{
    PROPERTIES_BYTES_MAX, PROTOCOL, address,
    parts::{Parts, put_data_head},
    project::{self, BASIC_TYPE, DEATH_FIELDS},
};
use crate::{
    composite::{ApplicationMap, Composite as _},
    descriptor,
    message::{AnnotationChange, patch_annotations},
    messaging::{Header, MessageId, Properties},
    types::{MapBuilder, Reader, Symbol, Timestamp, Value, code, write},
};
use alloc::{string::String, vec, vec::Vec};
use leveret_model::{
    Exact, Patch, PatchError, Property, Value as Changed, limits::VALUE_DEPTH_MAX, patch::HeaderChange,
};

/// The annotations that have a form of their own.
const DEATHS: &str = "x-opt-deaths";
const RECEIVED: &str = "x-opt-rabbitmq-received-time";
const TOO_DEEP: &str = "it nests too deep";

/// The properties that are fields of the section properties, and so of the bare message.
const BARE: [Property; 8] = [
    Property::ContentType,
    Property::ContentEncoding,
    Property::CorrelationId,
    Property::ReplyTo,
    Property::MessageId,
    Property::Timestamp,
    Property::UserId,
    Property::AppId,
];

/// Appends properties with the patch's changes made.
pub(super) fn patch(properties: &[u8], patch: &Patch, out: &mut Vec<u8>) -> Result<(), PatchError> {
    let start = out.len();
    let parts = Parts::of(properties);
    put_header(&parts, patch, out)?;
    put_annotations(&parts, patch, out)?;
    put_properties(&parts, patch, out)?;
    put_application(&parts, patch, out)?;
    match patch.body() {
        Some(body) => put_data_head(out, body.len()),
        None => out.extend_from_slice(parts.data_head),
    }
    if !touches_bare(&parts, patch) {
        out.extend_from_slice(parts.footer);
    }
    let bytes = out.len() - start;
    if bytes > PROPERTIES_BYTES_MAX.max(properties.len()) {
        return Err(PatchError::TooLarge { bytes, bytes_max: PROPERTIES_BYTES_MAX });
    }
    Ok(())
}

/// Whether a patch changes the bare message (section 3.2), which its sender may have signed: the body, a field of the
/// section properties, an application property. What is only removed where it is not changes nothing.
pub(super) fn touches_bare(parts: &Parts<'_>, patch: &Patch) -> bool {
    if patch.body().is_some() || is_any_changed(patch, &BARE) && !removes_nothing(parts, patch) {
        return true;
    }
    if patch.headers().is_empty() {
        return false;
    }
    let application = parts.application();
    patch.headers().iter().any(|change| is_of_application(parts, &application, change).is_ok_and(|is| is))
}

/// Whether all that a patch does to the section properties is to remove fields that are not there.
fn removes_nothing(parts: &Parts<'_>, patch: &Patch) -> bool {
    let fields = parts.properties();
    BARE.iter().filter_map(|property| Some((*property, patch.property(*property)?))).all(
        |(property, value)| {
            let is_there = match property {
                Property::ContentType => fields.content_type.is_some(),
                Property::ContentEncoding => fields.content_encoding.is_some(),
                Property::CorrelationId => fields.correlation_id.is_some(),
                Property::ReplyTo => fields.reply_to.is_some(),
                Property::MessageId => fields.message_id.is_some(),
                Property::Timestamp => fields.creation_time.is_some(),
                Property::UserId => fields.user_id.is_some(),
                Property::AppId => fields.group_id.is_some(),
                _ => false,
            };
            value.is_none() && !is_there
        },
    )
}

/// Whether a change is of an application property: one that is set, or that is there and goes.
fn is_of_application(
    parts: &Parts<'_>,
    application: &ApplicationMap<'_>,
    change: &HeaderChange,
) -> Result<bool, PatchError> {
    let is_there = || name_of(change).is_ok_and(|name| application.get(name).is_some());
    Ok(annotation_of(parts, application, change)?.is_none() && (change.value.is_some() || is_there()))
}

fn is_any_changed(patch: &Patch, properties: &[Property]) -> bool {
    properties.iter().any(|property| patch.property(*property).is_some())
}

fn class(property: Property, value: &Changed) -> PatchError {
    PatchError::PropertyClass { property, class: value.class() }
}

fn unfit(property: Property, why: &'static str) -> PatchError {
    PatchError::PropertyValue { property, why }
}

fn put_header(parts: &Parts<'_>, patch: &Patch, out: &mut Vec<u8>) -> Result<(), PatchError> {
    if !is_any_changed(patch, &[Property::DeliveryMode, Property::Priority, Property::Expiration]) {
        out.extend_from_slice(parts.header);
        return Ok(());
    }
    let mut header = parts.header();
    if let Some(change) = patch.property(Property::DeliveryMode) {
        let mode = change.map(|value| small(Property::DeliveryMode, value)).transpose()?;
        header.durable = mode.map(|mode| mode == 2);
    }
    if let Some(change) = patch.property(Property::Priority) {
        header.priority = change.map(|value| small(Property::Priority, value)).transpose()?;
    }
    if let Some(change) = patch.property(Property::Expiration) {
        header.ttl = match change {
            None => None,
            Some(value) => {
                let text = text_of(Property::Expiration, value)?;
                let wrong = |_| unfit(Property::Expiration, "it is no number of milliseconds below 2^32");
                Some(text.parse().map_err(wrong)?)
            }
        };
    }
    if header != Header::default() {
        header.encode(out);
    }
    Ok(())
}

fn small(property: Property, value: &Changed) -> Result<u8, PatchError> {
    let Changed::Integer(integer) = value else { return Err(class(property, value)) };
    u8::try_from(*integer).map_err(|_| unfit(property, "it is not between 0 and 255"))
}

fn text_of(property: Property, value: &Changed) -> Result<&str, PatchError> {
    match value {
        Changed::Text(text) => Ok(text),
        Changed::Binary(_) => Err(unfit(property, "it is no UTF-8")),
        _ => Err(class(property, value)),
    }
}

/// A header's name, as far as there are such names here.
fn name_of(change: &HeaderChange) -> Result<&str, PatchError> {
    let wrong = |why| PatchError::Header { name: change.name.clone(), why };
    core::str::from_utf8(&change.name).map_err(|_| wrong("its name is no UTF-8"))
}

/// What a value is here, if somebody said so: an annotation.
fn exact_of(change: &HeaderChange) -> Option<&Exact> {
    change.exact.as_ref().filter(|exact| exact.protocol == PROTOCOL)
}

/// Which annotation a header is, unless the message has an application property of that name and no such annotation.
fn annotation_of<'c>(
    parts: &Parts<'_>,
    application: &ApplicationMap<'_>,
    change: &'c HeaderChange,
) -> Result<Option<Symbol<'c>>, PatchError> {
    let name = name_of(change)?;
    let Some(annotation) = project::annotation_of(name) else { return Ok(None) };
    if exact_of(change).is_none()
        && application.get(name).is_some()
        && parts.annotations().get(annotation).is_none()
    {
        return Ok(None);
    }
    let wrong = || PatchError::Header { name: change.name.clone(), why: "its name is no ASCII" };
    Symbol::new(annotation).map(Some).ok_or_else(wrong)
}

fn put_annotations(parts: &Parts<'_>, patch: &Patch, out: &mut Vec<u8>) -> Result<(), PatchError> {
    let application = parts.application();
    // The values, encoded: what is written borrows from them.
    let mut values: Vec<(Symbol<'_>, Option<Vec<u8>>)> = Vec::new();
    for change in patch.headers() {
        let Some(name) = annotation_of(parts, &application, change)? else { continue };
        let value = change.value.as_ref().map(|value| match exact_of(change) {
            Some(exact) => Ok(exact.bytes.to_vec()),
            None => encoded(parts, name.as_str(), value),
        });
        let value = value.transpose().map_err(|why| PatchError::Header { name: change.name.clone(), why })?;
        values.push((name, value));
    }
    if let Some(change) = patch.property(Property::MessageType) {
        let text = change.map(|value| text_of(Property::MessageType, value)).transpose()?;
        let value = text.map(|text| {
            let mut value = Vec::new();
            write::put(&mut value, text);
            value
        });
        values.push((Symbol::from_static(BASIC_TYPE), value));
    }
    if values.is_empty() {
        out.extend_from_slice(parts.annotations);
        return Ok(());
    }
    let changes: Vec<_> = values
        .iter()
        .map(|(name, value)| AnnotationChange {
            name: *name,
            value: value.as_deref().and_then(|value| Reader::new(value).value().ok()),
        })
        .collect();
    patch_annotations(out, descriptor::MESSAGE_ANNOTATIONS, parts.annotations(), &changes);
    Ok(())
}

fn encoded(parts: &Parts<'_>, annotation: &str, value: &Changed) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::new();
    match (annotation, value) {
        (DEATHS, Changed::List(deaths)) => put_deaths(&mut out, deaths, parts.annotations().get(DEATHS))?,
        (RECEIVED, Changed::Integer(time)) => write::put(&mut out, Timestamp(*time)),
        _ => put_value(&mut out, value, VALUE_DEPTH_MAX)?,
    }
    Ok(out)
}

fn put_properties(parts: &Parts<'_>, patch: &Patch, out: &mut Vec<u8>) -> Result<(), PatchError> {
    if !is_any_changed(patch, &BARE) || removes_nothing(parts, patch) {
        out.extend_from_slice(parts.properties);
        return Ok(());
    }
    let mut fields = parts.properties();
    let text = |property| {
        patch.property(property).map(|change| change.map(|value| text_of(property, value)).transpose())
    };
    let symbol = |property| {
        let wrong = || unfit(property, "it is no ASCII");
        let symbol = |text| Symbol::new(text).ok_or_else(wrong);
        text(property).map(|text| text.and_then(|text| text.map(symbol).transpose()))
    };
    if let Some(value) = symbol(Property::ContentType) {
        fields.content_type = value?;
    }
    if let Some(value) = symbol(Property::ContentEncoding) {
        fields.content_encoding = value?;
    }
    if let Some(change) = patch.property(Property::CorrelationId) {
        fields.correlation_id = change.map(|value| id_of(Property::CorrelationId, value)).transpose()?;
    }
    if let Some(change) = patch.property(Property::MessageId) {
        fields.message_id = change.map(|value| id_of(Property::MessageId, value)).transpose()?;
    }
    if let Some(value) = text(Property::AppId) {
        fields.group_id = value?;
    }
    if let Some(change) = patch.property(Property::Timestamp) {
        fields.creation_time = match change {
            None => None,
            Some(Changed::Timestamp(time)) => Some(Timestamp(*time)),
            Some(value) => return Err(class(Property::Timestamp, value)),
        };
    }
    if let Some(change) = patch.property(Property::UserId) {
        fields.user_id = match change {
            None => None,
            Some(Changed::Text(text)) => Some(text.as_bytes()),
            Some(Changed::Binary(bytes)) => Some(bytes),
            Some(value) => return Err(class(Property::UserId, value)),
        };
    }
    let reply_to = text(Property::ReplyTo).transpose()?.map(|text| text.map(reply_to));
    if let Some(reply_to) = &reply_to {
        fields.reply_to = reply_to.as_deref();
    }
    if fields != Properties::default() {
        fields.encode(out);
    }
    Ok(())
}

/// A queue's name as an address; what looks like an address already stays.
fn reply_to(text: &str) -> String {
    if text.starts_with('/') { text.into() } else { address::of_queue(text.as_bytes()) }
}

fn id_of(property: Property, value: &Changed) -> Result<MessageId<'_>, PatchError> {
    Ok(match value {
        Changed::Text(text) => match project::uuid_of(text) {
            Some(uuid) => MessageId::Uuid(uuid),
            None => MessageId::String(text),
        },
        Changed::Binary(bytes) => MessageId::Binary(bytes),
        _ => return Err(class(property, value)),
    })
}

fn put_application(parts: &Parts<'_>, patch: &Patch, out: &mut Vec<u8>) -> Result<(), PatchError> {
    let application = parts.application();
    let mut changes = Vec::new();
    for change in patch.headers() {
        if is_of_application(parts, &application, change)? {
            changes.push((name_of(change)?, change));
        }
    }
    if changes.is_empty() {
        out.extend_from_slice(parts.application);
        return Ok(());
    }
    let mut map = MapBuilder::new();
    let mut written = vec![false; changes.len()];
    for (key, pair) in application.map().spans() {
        let place = changes.iter().position(|(name, _)| key.as_str() == Some(name));
        match place.and_then(|place| Some((changes.get(place)?.1, written.get_mut(place)?))) {
            None => map.push_encoded(pair),
            Some((change, written)) if !change.to_end && !*written => {
                *written = true;
                push(&mut map, change)?;
            }
            Some(_) => {}
        }
    }
    for ((_, change), written) in changes.iter().zip(written) {
        if !written {
            push(&mut map, change)?;
        }
    }
    if !map.view().is_empty() {
        write::put_descriptor(out, descriptor::APPLICATION_PROPERTIES);
        write::put(out, map.view());
    }
    Ok(())
}

/// Adds a header that is set; nothing for one that goes.
fn push(map: &mut MapBuilder, change: &HeaderChange) -> Result<(), PatchError> {
    let Some(value) = &change.value else { return Ok(()) };
    let wrong = |why| PatchError::Header { name: change.name.clone(), why };
    if matches!(value, Changed::List(_) | Changed::Map(_)) {
        return Err(wrong("an application property is no list and no map"));
    }
    let mut pair = Vec::new();
    write::put(&mut pair, name_of(change)?);
    put_value(&mut pair, value, VALUE_DEPTH_MAX).map_err(wrong)?;
    map.push_encoded(&pair);
    Ok(())
}

/// Appends a value of the model.
fn put_value(out: &mut Vec<u8>, value: &Changed, depth: usize) -> Result<(), &'static str> {
    match value {
        Changed::Void => write::put(out, Value::Null),
        Changed::Boolean(boolean) => write::put(out, *boolean),
        Changed::Integer(integer) => write::put(out, *integer),
        Changed::Unsigned(integer) => write::put(out, *integer),
        Changed::Real(real) => write::put(out, *real),
        Changed::Decimal { .. } => return Err("decimals of another base have no encoding"),
        Changed::Text(text) => write::put(out, text.as_str()),
        Changed::Binary(bytes) => write::put(out, &bytes[..]),
        Changed::Timestamp(time) => write::put(out, Timestamp(*time)),
        Changed::List(values) => {
            let depth = depth.checked_sub(1).ok_or(TOO_DEEP)?;
            return put_all(out, (code::LIST8, code::LIST32), values.iter(), depth);
        }
        Changed::Map(pairs) => {
            let depth = depth.checked_sub(1).ok_or(TOO_DEEP)?;
            let values = pairs.iter().flat_map(|(key, value)| [key, value]);
            return put_all(out, (code::MAP8, code::MAP32), values, depth);
        }
    }
    Ok(())
}

fn put_all<'v>(
    out: &mut Vec<u8>,
    (small, large): (u8, u8),
    values: impl Iterator<Item = &'v Changed>,
    depth: usize,
) -> Result<(), &'static str> {
    let mut outcome = Ok(());
    write::put_counted(out, small, large, |out| {
        let mut count = 0;
        for value in values {
            if outcome.is_ok() {
                outcome = put_value(out, value, depth);
                count += 1;
            }
        }
        count
    });
    outcome
}

/// When an earlier death in a queue for a reason was the last one of that, as `before` tells, the same annotation.
fn last_time(before: Option<Value<'_>>, death: &[(Changed, Changed)]) -> Option<Timestamp> {
    let said =
        |name| death.iter().find(|(key, _)| key.as_text() == Some(name)).and_then(|(_, it)| it.as_text());
    let (queue, reason) = (said("queue")?, said("reason")?);
    let Some(Value::Array(deaths)) = before else { return None };
    let maps = deaths.iter().filter_map(|death| if let Value::Map(map) = death { Some(map) } else { None });
    let mut same = maps.filter(|map| {
        map.symbol("queue").and_then(|it| it.as_str()) == Some(queue)
            && map.symbol("reason").and_then(|it| it.as_symbol()).map(|it| it.as_str()) == Some(reason)
    });
    match same.next()?.symbol("last-time") {
        Some(Value::Timestamp(time)) => Some(time),
        _ => None,
    }
}

/// Appends `x-death` as `x-opt-deaths`: an array of maps whose keys are symbols. What is not said there the annotation
/// says that the message has `before`.
fn put_deaths(out: &mut Vec<u8>, deaths: &[Changed], before: Option<Value<'_>>) -> Result<(), &'static str> {
    let mut encoded = Vec::with_capacity(deaths.len());
    for death in deaths {
        let Changed::Map(death) = death else { return Err("a death is no map") };
        let mut map = MapBuilder::new();
        let is_told = |(key, _): &(Changed, Changed)| key.as_text() == Some("last-time");
        if !death.iter().any(is_told)
            && let Some(time) = last_time(before, death)
        {
            map.push(Symbol::from_static("last-time"), time);
        }
        for (key, value) in death {
            let Changed::Text(key) = key else { continue };
            let renamed = DEATH_FIELDS.iter().find(|(_, header)| header == key);
            let Some(name) = Symbol::new(renamed.map_or(key.as_str(), |(name, _)| name)) else { continue };
            let mut pair = Vec::new();
            write::put(&mut pair, name);
            match (name.as_str(), value) {
                ("count", Changed::Integer(count)) => {
                    write::put(&mut pair, u64::try_from(*count).unwrap_or(0))
                }
                ("reason", Changed::Text(reason)) => match Symbol::new(reason) {
                    Some(reason) => write::put(&mut pair, reason),
                    None => continue,
                },
                ("ttl", Changed::Text(ttl)) => match ttl.parse::<u32>() {
                    Ok(ttl) => write::put(&mut pair, ttl),
                    Err(_) => continue,
                },
                ("routing-keys", Changed::List(keys)) => {
                    let keys = keys.iter().filter_map(Changed::as_text).map(Value::String);
                    write::put_array(&mut pair, keys).map_err(|_| "routing keys are texts")?;
                }
                _ => put_value(&mut pair, value, VALUE_DEPTH_MAX)?,
            }
            map.push_encoded(&pair);
        }
        let mut bytes = Vec::new();
        write::put(&mut bytes, map.view());
        encoded.push(bytes);
    }
    let maps = encoded.iter().filter_map(|death| Reader::new(death).value().ok());
    write::put_array(out, maps).map_err(|_| "deaths are maps")
}
