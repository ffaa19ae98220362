//! Has 96 MiB of memory before it does anything.

/// Zeros, so the file is small.
static ROOM: [std::sync::atomic::AtomicU8; 96 << 20] =
    [const { std::sync::atomic::AtomicU8::new(0) }; 96 << 20];

leveret_guests_hostile::misbehaving!("x-versioned", route(message, to) {
    let place = ROOM.get(message.routing_key().len());
    place.map(|place| place.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
});

leveret_sdk::export!(Guest);
