//! Never returns from `route` for the routing key `loop`.

leveret_guests_hostile::misbehaving!("x-loops", route(message, to) {
    if message.routing_key() == b"loop" {
        let mut turns = 0_u64;
        loop {
            turns = std::hint::black_box(turns.wrapping_add(1));
        }
    }
});

leveret_sdk::export!(Guest);
