//! Takes memory without end for the routing key `bomb`.

leveret_guests_hostile::misbehaving!("x-bomb", route(message, to) {
    if message.routing_key() == b"bomb" {
        let mut hoard = Vec::new();
        loop {
            hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
        }
    }
});

leveret_sdk::export!(Guest);
