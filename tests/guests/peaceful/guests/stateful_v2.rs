//! Version 2 of `stateful/all.rs`.

use leveret_sdk::{key_value::Space, *};

const VERSION: &str = "2";

include!("stateful/all.rs");
include!("stateful/later.rs");

export!(version = "2", Stateful: Info + Reconfigure + Migrate);
