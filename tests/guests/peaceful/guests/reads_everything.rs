//! `x-reads-everything`: delivers to every binding what arrived whole, and rejects the rest with a text
//! that shows what arrived. It reads the routing key, all headers, three properties, and bodies of up to
//! 64 bytes; a message is whole if it has a header `whole`, whatever its value.

use leveret_sdk::{
    Above, Binding, BindingId, BindingIndex, Decision, Declaration, Description, ExchangeType, Message,
    Property, Reads, Refusal, Targets,
};
use std::fmt::Write;

struct ReadsEverything(BindingIndex<()>);

impl ExchangeType for ReadsEverything {
    fn describe() -> Description {
        Description::new("x-reads-everything", "Shows what a plugin gets to see")
            .pure()
            .independent_bindings()
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self(BindingIndex::default()))
    }

    fn reads(&self) -> Reads {
        let reads = Reads::nothing().routing_key().all_headers().body(64, Above::Absent);
        reads.property(Property::MessageId).property(Property::Priority).property(Property::Timestamp)
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        self.0.insert((), binding.id);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.0.remove(id);
    }

    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        if message.header("whole").is_some() {
            to.extend_from_slice(self.0.get(&()));
            return Decision::Deliver;
        }
        Decision::Reject(shown(message).into())
    }
}

/// `key=k a=Integer(1) message-id=None priority=Some(Integer(4)) timestamp=None body=Some("text")`
fn shown(message: &Message<'_>) -> String {
    let mut shown = format!("key={}", String::from_utf8_lossy(message.routing_key()));
    for header in message.headers() {
        let name = String::from_utf8_lossy(header.name());
        // Writing to a string cannot fail.
        let _ = match header.value() {
            Some(value) => write!(shown, " {name}={value:?}"),
            None => write!(shown, " {name} makes no sense"),
        };
    }
    let _ = write!(
        shown,
        " message-id={:?} priority={:?} timestamp={:?} body={:?}",
        message.property(Property::MessageId),
        message.property(Property::Priority),
        message.property(Property::Timestamp),
        message.body().map(String::from_utf8_lossy),
    );
    shown
}

leveret_sdk::export!(ReadsEverything);
