//! `x-versioned`, version 1: to the bindings whose key is the routing key with `.v1` behind it.

leveret_sdk::export!(version = "1.0.0", leveret_guests_peaceful::Versioned<1>);
