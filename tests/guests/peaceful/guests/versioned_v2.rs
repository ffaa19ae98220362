//! `x-versioned`, version 2: to the bindings whose key is the routing key with `.v2` behind it.

leveret_sdk::export!(version = "2.0.0", leveret_guests_peaceful::Versioned<2>);
