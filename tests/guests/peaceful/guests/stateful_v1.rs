//! Version 1 of `stateful/all.rs`: it can neither be told of arguments nor migrate.

use leveret_sdk::{key_value::Space, *};

const VERSION: &str = "1";

include!("stateful/all.rs");

export!(version = "1", Stateful: Info);
