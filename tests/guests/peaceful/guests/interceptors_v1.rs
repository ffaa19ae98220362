//! Version 1 of the interceptors of `interceptors/both.rs`.

use leveret_sdk::*;

const VERSION: &str = "1";

include!("interceptors/both.rs");
