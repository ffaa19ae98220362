//! Names 100,000 bindings for the routing key `flood`: more than a decision may have.

leveret_guests_hostile::misbehaving!("x-floods", route(message, to) {
    if message.routing_key() == b"flood" {
        to.extend((0..100_000).map(leveret_sdk::BindingId));
    }
});

leveret_sdk::export!(Guest);
