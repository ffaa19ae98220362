//! Names, for the routing key `forge`, bindings that it was never given besides its own.

leveret_guests_hostile::misbehaving!("x-forges", route(message, to) {
    if message.routing_key() == b"forge" {
        for id in [0, 1, 2, 3, u64::from(u32::MAX), u64::MAX, 1 << 32, 7 << 32 | 1] {
            to.push(leveret_sdk::BindingId(id));
        }
    }
});

leveret_sdk::export!(Guest);
