//! Says that it is `x-versioned`, and takes no binding at all.

leveret_guests_hostile::misbehaving!("x-versioned", route(message, to) {}, bind(binding) {
    if !binding.routing_key.is_empty() {
        return Err(leveret_sdk::Refusal::new(format!("the key {} is none", binding.routing_key.escape_ascii())));
    }
});

leveret_sdk::export!(Guest);
