//! Calls itself until the stack is used up for the routing key `recurse`.

/// Cannot be turned into a loop: it works on with each result.
#[allow(unconditional_recursion, reason = "that is what it is for")]
fn deeper(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 64]);
    room.iter().sum::<u64>().wrapping_add(deeper(depth.wrapping_add(1))) ^ depth
}

leveret_guests_hostile::misbehaving!("x-recurses", route(message, to) {
    if message.routing_key() == b"recurse" {
        std::hint::black_box(deeper(1));
    }
});

leveret_sdk::export!(Guest);
