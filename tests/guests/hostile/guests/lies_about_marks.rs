//! Claims marks, and says of bindings of the key `hidden` that they concern messages with another key.

use leveret_sdk::{Binding, Mark, Marks};

leveret_guests_hostile::misbehaving!("x-lies-about-marks", route(message, to) {});

impl Marks for Guest {
    fn mark(&self, binding: &Binding) -> Mark {
        Mark::routing_key(if binding.routing_key == b"hidden" { b"elsewhere" } else { &binding.routing_key })
    }
}

leveret_sdk::export!(Guest: Marks);
