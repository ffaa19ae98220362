//! Between the generated types of the contract and the SDK's own.

use crate::{
    Above, Arguments, Attachment, Binding, BindingId, Declaration, Description, Destination, InnerType,
    InterceptorDescription, Property, Reads, Refusal, Value, Verdict,
    description::ArgumentDescription,
    generated::{
        exports::leveret::routing::{exchange_type as exported, interceptor},
        leveret::routing::types as wit,
    },
    patch::Change,
    projection::{put_absent, put_body, put_field, put_headers, put_publisher, put_routing_key, put_short},
    reads::HeaderSelection,
    targets::Answer,
};

pub(crate) fn description_to_wit(description: Description) -> exported::ExchangeTypeDescription {
    exported::ExchangeTypeDescription {
        name: description.name.into(),
        summary: description.summary.into(),
        arguments: argument_descriptions_to_wit(description.arguments),
        binding_arguments: argument_descriptions_to_wit(description.binding_arguments),
        pure: description.pure,
        independent_bindings: description.independent_bindings,
        single_writer: description.single_writer,
        stage: description
            .stage
            .map(|(argument, order)| exported::Stage { argument: argument.into(), order }),
    }
}

pub(crate) fn interceptor_description_to_wit(
    description: InterceptorDescription,
) -> interceptor::InterceptorDescription {
    interceptor::InterceptorDescription {
        name: description.name.into(),
        summary: description.summary.into(),
        points: description.points,
        arguments: argument_descriptions_to_wit(description.arguments),
        pure: description.pure,
    }
}

fn argument_descriptions_to_wit(arguments: Vec<ArgumentDescription>) -> Vec<wit::ArgumentDescription> {
    let to_wit = |argument: ArgumentDescription| wit::ArgumentDescription {
        name: argument.name.into(),
        kind: argument.kind,
        required: argument.required,
        summary: argument.summary.into(),
    };
    arguments.into_iter().map(to_wit).collect()
}

pub(crate) fn declaration_from_wit(declaration: exported::Declaration) -> Declaration {
    Declaration {
        arguments: arguments_from_wit(&declaration.arguments),
        name: declaration.name,
        vhost: declaration.vhost,
        in_front_of: declaration.in_front_of,
    }
}

pub(crate) fn attachment_from_wit(attachment: interceptor::Attachment) -> Attachment {
    Attachment {
        point: attachment.point,
        arguments: arguments_from_wit(&attachment.arguments),
        vhost: attachment.vhost,
    }
}

pub(crate) fn binding_from_wit(binding: wit::Binding) -> Binding {
    Binding {
        id: BindingId(binding.id),
        arguments: arguments_from_wit(&binding.arguments),
        routing_key: binding.routing_key,
        destination: match binding.destination {
            wit::Destination::Queue(name) => Destination::Queue(name),
            wit::Destination::Exchange(name) => Destination::Exchange(name),
        },
    }
}

pub(crate) fn arguments_from_wit(fields: &[wit::Field]) -> Arguments {
    let mut flat = Vec::new();
    put_fields(&mut flat, fields);
    Arguments::from_flat(flat)
}

pub(crate) fn arguments_to_wit(arguments: &Arguments) -> Vec<wit::Field> {
    let to_wit = |field: crate::message::Field<'_>| {
        Some(wit::Field { name: field.name().to_vec(), value: value_to_wit(field.value()?) })
    };
    arguments.iter().filter_map(to_wit).collect()
}

pub(crate) fn inner_to_wit(inner: InnerType) -> exported::InnerType {
    exported::InnerType { arguments: arguments_to_wit(&inner.arguments), exchange_type: inner.exchange_type }
}

pub(crate) fn refusal_to_wit(refusal: Refusal) -> wit::Refusal {
    match refusal {
        Refusal::MissingArgument(name) => wit::Refusal::MissingArgument(name),
        Refusal::InvalidArgument { name, reason } => wit::Refusal::InvalidArgument((name, reason)),
        Refusal::Unsupported(what) => wit::Refusal::Unsupported(what),
        Refusal::Other(reason) => wit::Refusal::Other(reason),
    }
}

pub(crate) fn reads_to_wit(reads: &Reads) -> wit::Reads {
    wit::Reads {
        routing_key: reads.routing_key,
        headers: match &reads.headers {
            HeaderSelection::Named(names) if !names.is_empty() => wit::HeaderSelection::Named(names.clone()),
            HeaderSelection::None | HeaderSelection::Named(_) => wit::HeaderSelection::None,
            HeaderSelection::All => wit::HeaderSelection::All,
        },
        properties: reads.properties.iter().map(|property| property_to_wit(*property)).collect(),
        body: reads.body.map(|body| wit::BodyReading {
            limit: body.bytes_max,
            above: match body.above {
                Above::Absent => wit::AboveLimit::Absent,
                Above::Reject => wit::AboveLimit::Reject,
            },
        }),
        publisher: reads.publisher,
        exchange: reads.exchange,
        queue: reads.queue,
        reason: reads.reason,
    }
}

pub(crate) fn property_to_wit(property: Property) -> wit::Property {
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

#[cfg(not(target_family = "wasm"))]
pub(crate) fn property_from_wit(property: wit::Property) -> Property {
    let from_wit = |there: &Property| property_to_wit(*there) == property;
    // Each has its pair.
    Property::ALL.into_iter().find(from_wit).unwrap_or(Property::AppId)
}

/// Appends the projection that the batch form of the same message would bring.
pub(crate) fn put_projection(out: &mut Vec<u8>, reads: &Reads, message: &wit::Message) {
    if reads.routing_key {
        put_routing_key(out, &message.routing_key);
    }
    if reads.headers.is_any() {
        put_headers(out, |out| put_fields(out, &message.headers));
    }
    for position in 0..reads.properties.len() {
        match message.properties.get(position) {
            Some(Some(value)) => put_value(out, value),
            _ => put_absent(out),
        }
    }
    if reads.body.is_some() {
        put_body(out, message.body.as_deref());
    }
    if reads.publisher {
        match &message.publisher {
            Some(from) => put_publisher(out, &from.user, &from.connection, &from.protocol),
            None => put_publisher(out, "", "", ""),
        }
    }
    if reads.exchange {
        put_short(out, &message.exchange);
    }
    if reads.queue {
        put_short(out, &message.queue);
    }
    if reads.reason {
        put_short(out, message.reason.as_bytes());
    }
}

fn put_fields(out: &mut Vec<u8>, fields: &[wit::Field]) -> u16 {
    let put =
        fields.iter().filter(|field| put_field(out, &field.name, |out| put_value(out, &field.value))).count();
    u16::try_from(put).unwrap_or(u16::MAX)
}

pub(crate) fn put_value(out: &mut Vec<u8>, value: &wit::Value) {
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

pub(crate) fn value_to_wit(value: Value<'_>) -> wit::Value {
    match value {
        Value::Void => wit::Value::Void,
        Value::Boolean(boolean) => wit::Value::Boolean(boolean),
        Value::Integer(integer) => wit::Value::Integer(integer),
        Value::Unsigned(integer) => wit::Value::Unsigned(integer),
        Value::Real(real) => wit::Value::Real(real),
        Value::Text(text) => wit::Value::Text(text.into()),
        Value::Binary(bytes) => wit::Value::Binary(bytes.into()),
        Value::Timestamp(milliseconds) => wit::Value::Timestamp(milliseconds),
        Value::Decimal { .. } | Value::List(_) | Value::Map(_) => {
            let mut flat = Vec::new();
            value.put_flat(&mut flat);
            wit::Value::Encoded(flat)
        }
    }
}

pub(crate) fn answer_to_wit(answer: Answer) -> exported::Decision {
    match answer {
        Answer::Deliver(ids) => exported::Decision::Deliver(ids),
        Answer::Drop(reason) => exported::Decision::Drop(reason),
        Answer::Reject(reason) => exported::Decision::Reject(reason),
        Answer::Delegate => exported::Decision::Delegate,
        Answer::HoldMs(milliseconds) => exported::Decision::Hold(milliseconds),
    }
}

pub(crate) fn verdict_to_wit(verdict: Verdict) -> interceptor::Verdict {
    match verdict {
        Verdict::Pass => interceptor::Verdict::Pass,
        Verdict::Drop(reason) => interceptor::Verdict::Drop(reason.into()),
        Verdict::Reject(reason) => interceptor::Verdict::Reject(reason.into()),
        Verdict::Patch(patch) => {
            interceptor::Verdict::Patch(patch.changes().filter_map(change_to_wit).collect())
        }
    }
}

fn change_to_wit(change: Change<'_>) -> Option<interceptor::Change> {
    Some(match change {
        Change::SetHeader(field) => interceptor::Change::SetHeader(wit::Field {
            name: field.name().to_vec(),
            value: value_to_wit(field.value()?),
        }),
        Change::RemoveHeader(name) => interceptor::Change::RemoveHeader(name.to_vec()),
        Change::SetProperty(property, value) => {
            interceptor::Change::SetProperty((property_to_wit(property), value_to_wit(value)))
        }
        Change::RemoveProperty(property) => interceptor::Change::RemoveProperty(property_to_wit(property)),
        Change::SetRoutingKey(key) => interceptor::Change::SetRoutingKey(key.to_vec()),
        Change::SetBody(body) => interceptor::Change::SetBody(body.to_vec()),
    })
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
            publisher: Some(wit::Publisher {
                user: "me".into(),
                connection: "here".into(),
                protocol: "amqp-0-9-1".into(),
            }),
            exchange: b"from".to_vec(),
            queue: b"q".to_vec(),
            reason: "expired".into(),
        };
        let reads = Reads::nothing().routing_key().all_headers().body(9, Above::Absent);
        let reads = reads.publisher().exchange().queue().reason();
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
        assert_eq!(message.publisher().map(|publisher| publisher.connection), Some("here"));
        assert_eq!(
            (message.exchange(), message.queue(), message.reason()),
            (&b"from"[..], &b"q"[..], "expired")
        );
    }

    #[test]
    fn values_go_there_and_back() {
        let list = [0x07, 1, 0, 0, 0, 0x00];
        let arguments = Arguments::new()
            .with("list", Value::from_flat(&list).unwrap())
            .with("decimal", Value::Decimal { scale: 2, unscaled: 314 })
            .with("text", "t")
            .with("bytes", Value::Binary(&[0xff]))
            .with("count", u64::MAX)
            .with("when", Value::Timestamp(5));
        assert_eq!(arguments_from_wit(&arguments_to_wit(&arguments)), arguments);
    }

    #[test]
    fn properties_have_the_numbers_of_the_contract() {
        for (number, property) in Property::ALL.into_iter().enumerate() {
            assert_eq!((property as usize, property_to_wit(property) as usize), (number, number));
        }
    }
}
