//! Between the generated types of the contract and the SDK's own.

use crate::{
    Arguments, Binding, BindingId, Declaration, Description, Property, Reads, Value,
    generated::{exports::leveret::routing::exchange_type as exported, leveret::routing::types as wit},
    message::{put_absent, put_body, put_field, put_headers, put_routing_key},
    reads::HeaderSelection,
    targets::Answer,
};

pub(crate) fn description_to_wit(description: Description) -> exported::ExchangeTypeDescription {
    exported::ExchangeTypeDescription {
        name: description.name.into(),
        summary: description.summary.into(),
        pure: description.pure,
        independent_bindings: description.independent_bindings,
    }
}

pub(crate) fn declaration_from_wit(declaration: &mut exported::Declaration) -> Declaration {
    Declaration {
        name: std::mem::take(&mut declaration.name),
        arguments: arguments_from_wit(&declaration.arguments),
    }
}

pub(crate) fn binding_from_wit(binding: wit::Binding) -> Binding {
    Binding {
        id: BindingId(binding.id),
        arguments: arguments_from_wit(&binding.arguments),
        routing_key: binding.routing_key,
    }
}

fn arguments_from_wit(fields: &[wit::Field]) -> Arguments {
    let mut flat = Vec::new();
    put_fields(&mut flat, fields);
    Arguments::from_flat(flat)
}

pub(crate) fn reads_to_wit(reads: &Reads) -> wit::Reads {
    wit::Reads {
        routing_key: reads.routing_key,
        headers: match &reads.headers {
            HeaderSelection::None => wit::HeaderSelection::None,
            HeaderSelection::Named(names) => wit::HeaderSelection::Named(names.clone()),
            HeaderSelection::All => wit::HeaderSelection::All,
        },
        properties: reads.properties.iter().map(|property| property_to_wit(*property)).collect(),
        body_limit: reads.body_bytes_max,
    }
}

fn property_to_wit(property: Property) -> wit::Property {
    match property {
        Property::ContentType => wit::Property::ContentType,
        Property::ContentEncoding => wit::Property::ContentEncoding,
        Property::DeliveryMode => wit::Property::DeliveryMode,
        Property::Priority => wit::Property::Priority,
        Property::CorrelationId => wit::Property::CorrelationId,
        Property::ReplyTo => wit::Property::ReplyTo,
        Property::Expiration => wit::Property::Expiration,
        Property::MessageId => wit::Property::MessageId,
        Property::Timestamp => wit::Property::Timestamp,
        Property::MessageType => wit::Property::MessageType,
        Property::UserId => wit::Property::UserId,
        Property::AppId => wit::Property::AppId,
    }
}

/// Appends the projection that the batch form of the same message would bring.
pub(crate) fn put_projection(out: &mut Vec<u8>, reads: &Reads, message: &wit::Message) {
    if reads.routing_key {
        put_routing_key(out, &message.routing_key);
    }
    if reads.headers != HeaderSelection::None {
        put_headers(out, |out| put_fields(out, &message.headers));
    }
    for position in 0..reads.properties.len() {
        match message.properties.get(position) {
            Some(Some(value)) => put_value(out, value),
            _ => put_absent(out),
        }
    }
    if reads.body_bytes_max.is_some() {
        put_body(out, message.body.as_deref());
    }
}

fn put_fields(out: &mut Vec<u8>, fields: &[wit::Field]) -> u16 {
    let put =
        fields.iter().filter(|field| put_field(out, &field.name, |out| put_value(out, &field.value))).count();
    u16::try_from(put).unwrap_or(u16::MAX)
}

fn put_value(out: &mut Vec<u8>, value: &wit::Value) {
    match value {
        wit::Value::Void => Value::Void.put_flat(out),
        wit::Value::Boolean(boolean) => Value::Boolean(*boolean).put_flat(out),
        wit::Value::Integer(integer) => Value::Integer(*integer).put_flat(out),
        wit::Value::Unsigned(integer) => Value::Unsigned(*integer).put_flat(out),
        wit::Value::Real(real) => Value::Real(*real).put_flat(out),
        wit::Value::Text(text) => Value::Text(text).put_flat(out),
        wit::Value::Binary(bytes) => Value::Binary(bytes).put_flat(out),
        wit::Value::Timestamp(milliseconds) => Value::Timestamp(*milliseconds).put_flat(out),
        // Void in place of bytes that are no value, so that what follows them can be read.
        wit::Value::Encoded(flat) => Value::from_flat(flat).unwrap_or(Value::Void).put_flat(out),
    }
}

pub(crate) fn answer_to_wit(answer: Answer) -> wit::Decision {
    match answer {
        Answer::Deliver(ids) => wit::Decision::Deliver(ids),
        Answer::Drop => wit::Decision::Drop,
        Answer::Reject(reason) => wit::Decision::Reject(reason),
    }
}

/// What an exchange reads while nothing is known of it.
pub(crate) fn reads_nothing() -> wit::Reads {
    reads_to_wit(&Reads::nothing())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;

    #[test]
    fn the_plain_form_of_a_message_becomes_the_flat_one() {
        let list = [0x07, 1, 0, 0, 0, 0x00];
        let field = |name: &str, value| wit::Field { name: name.into(), value };
        let message = wit::Message {
            routing_key: b"key".to_vec(),
            headers: vec![
                field("list", wit::Value::Encoded(list.to_vec())),
                field("broken", wit::Value::Encoded(vec![0x99])),
                field("text", wit::Value::Text("t".into())),
            ],
            properties: vec![None, Some(wit::Value::Integer(3))],
            body: Some(b"body".to_vec()),
        };
        let reads = Reads::nothing().routing_key().all_headers().body_up_to_bytes(9);
        let reads = reads.property(Property::AppId).property(Property::Priority);
        let mut projection = Vec::new();
        put_projection(&mut projection, &reads, &message);
        let message = Message::new(&reads, &projection);
        assert_eq!(message.routing_key(), b"key");
        assert_eq!(message.header("list"), Value::from_flat(&list));
        assert_eq!(message.header("broken"), Some(Value::Void));
        assert_eq!(message.header("text"), Some(Value::Text("t")));
        assert_eq!(message.property(Property::AppId), None);
        assert_eq!(message.property(Property::Priority), Some(Value::Integer(3)));
        assert_eq!(message.body(), Some(&b"body"[..]));
    }

    /// The files in `generated/` were made from what is in `wit/` now.
    #[test]
    fn generated_files_are_fresh() {
        let wit = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/0.1.0");
        let mut paths: Vec<_> = std::fs::read_dir(wit).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "wit"));
        paths.sort();
        let bytes = paths.iter().flat_map(|path| std::fs::read(path).unwrap());
        let digest = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
            (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        assert_eq!(
            include_str!("../generated/wit-digest.txt").trim(),
            format!("{digest:016x}"),
            "wit/ changed: cargo run --manifest-path sdk/rust/regenerate/Cargo.toml"
        );
    }
}
