//! Version 3 of `stateful/all.rs`.

use leveret_sdk::{key_value::Space, *};

const VERSION: &str = "3";

include!("stateful/all.rs");
include!("stateful/later.rs");

export!(version = "3", Stateful: Info + Reconfigure + Migrate);
