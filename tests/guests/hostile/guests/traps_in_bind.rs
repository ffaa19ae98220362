//! Traps in `bind` for the binding key `trap`.

leveret_guests_hostile::misbehaving!("x-traps-in-bind", route(message, to) {}, bind(binding) {
    assert_ne!(binding.routing_key, b"trap", "asked to trap");
});

leveret_sdk::export!(Guest);
