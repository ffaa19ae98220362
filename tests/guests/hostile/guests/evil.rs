//! `evil/all.rs` as it is.

use leveret_sdk::{key_value::Space, *};
use std::{hint::black_box, time::Duration};

include!("evil/all.rs");

export!(Evil: Events + Timers + Info + Reconfigure + Migrate);
