//! `evil/all.rs` as a version that takes over what the first one left.

use leveret_sdk::{key_value::Space, *};
use std::{hint::black_box, time::Duration};

include!("evil/all.rs");

export!(version = "2", Evil: Events + Timers + Info + Reconfigure + Migrate);
