//! Never starts: `describe` does not return.

leveret_guests_hostile::misbehaving!("x-loops-in-describe", route(message, to) {}, describe {
    while std::hint::black_box(true) {}
});

leveret_sdk::export!(Guest);
