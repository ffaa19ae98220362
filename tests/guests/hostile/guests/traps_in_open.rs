//! Traps in `open` where the exchange has an argument `x-trap`.

leveret_guests_hostile::misbehaving!("x-traps-in-open", route(message, to) {}, open(declaration) {
    assert!(declaration.arguments.get("x-trap").is_none(), "asked to trap");
});

leveret_sdk::export!(Guest);
