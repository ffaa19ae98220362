//! `tell`, an interceptor for every point: sets the header that its argument names to all that it sees of a message: key,
//! exchange, queue, why it is dead-lettered, user and protocol of who published it, content type, the header `h`, and a
//! body of at most 8 bytes.

use leveret_sdk::*;

struct Tell(Vec<u8>);

impl Interceptor for Tell {
    fn describe() -> InterceptorDescription {
        InterceptorDescription::new("tell", "Tells what it sees", Point::Publish)
            .at(Point::Deliver)
            .at(Point::DeadLetter)
            .required_argument("header", Kind::Text, "where to tell it")
            .pure()
    }

    fn open(attachment: &Attachment) -> Result<Self, Refusal> {
        let header: &str = attachment.arguments.required("header")?;
        Ok(Self(header.into()))
    }

    fn reads(&self) -> Reads {
        let reads = Reads::nothing().routing_key().exchange().queue().reason().publisher().header("h");
        reads.property(Property::ContentType).body(8, Above::Absent)
    }

    fn intercept(&mut self, message: &Message<'_>) -> Verdict {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let shown = |value: Option<Value<'_>>| match value {
            Some(Value::Text(value)) => String::from(value),
            other => format!("{other:?}"),
        };
        let publisher = message.publisher().map(|it| format!("{}/{}", it.user, it.protocol));
        let told = [
            text(message.routing_key()),
            text(message.exchange()),
            text(message.queue()),
            String::from(message.reason()),
            publisher.unwrap_or_default(),
            shown(message.property(Property::ContentType)),
            shown(message.header("h")),
            message.body().map_or_else(|| String::from("none"), text),
        ];
        Patch::new().set_header(&self.0, told.join(" ").as_str()).into()
    }
}

export_interceptors!(Tell);
