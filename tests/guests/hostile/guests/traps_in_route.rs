//! Traps in `route` for the routing key `trap`, after a line on standard error.

leveret_guests_hostile::misbehaving!("x-traps-in-route", route(message, to) {
    assert_ne!(message.routing_key(), b"trap", "asked to trap");
});

leveret_sdk::export!(Guest);
