//! Describes itself in another way in each instance.

leveret_guests_hostile::misbehaving!("x-describes-at-random", route(message, to) {}, describe {
    let summary = leveret_sdk::random::next().to_string();
    if !summary.is_empty() {
        return leveret_sdk::Description::new("x-describes-at-random", summary);
    }
});

leveret_sdk::export!(Guest);
