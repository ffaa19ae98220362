//! Says that it is `topic`, a name that belongs to the broker.

leveret_guests_hostile::misbehaving!("topic", route(message, to) {});

leveret_sdk::export!(Guest);
