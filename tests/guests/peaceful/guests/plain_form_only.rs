//! `x-versioned`, version 1, without the batch form: what a plugin written by hand exports.
#![cfg(target_family = "wasm")]

use leveret_guests_peaceful::Versioned;
use leveret_sdk::component::{Plugin, Registration};

struct Component;

impl Plugin for Component {
    const VERSION: &'static str = "1.0.0";
    const EXCHANGE_TYPES: &'static [Registration] = &[Registration::of::<Versioned<1>>()];
}

leveret_sdk::__export_exchange_type!(Component);
