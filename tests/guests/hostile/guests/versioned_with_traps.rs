//! `x-versioned`, a new version that is wrong: to the bindings of the routing key itself, traps in `route`
//! for the key `trap`, and when it is told of the binding key `unwanted.v1`.

leveret_guests_hostile::misbehaving!(
    "x-versioned",
    route(message, to) {
        assert_ne!(message.routing_key(), b"trap", "asked to trap");
    },
    bind(binding) {
        assert_ne!(binding.routing_key, b"unwanted.v1", "asked to trap");
    }
);

leveret_sdk::export!(version = "2.1.0", Guest);
