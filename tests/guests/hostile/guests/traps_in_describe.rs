//! Always traps in `describe`.

leveret_guests_hostile::misbehaving!("x-traps-in-describe", route(message, to) {}, describe {
    assert!(std::hint::black_box(false), "always traps");
});

leveret_sdk::export!(Guest);
