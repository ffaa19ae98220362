//! Version 2 of the interceptors of `interceptors/both.rs`.

use leveret_sdk::*;

const VERSION: &str = "2";

include!("interceptors/both.rs");
