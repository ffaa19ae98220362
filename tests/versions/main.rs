//! Two versions of a plugin at once in a running broker: a candidate in shadow, as a canary, promoted and
//! withdrawn, and exchanges that stay on a version.
//!
//! `x-versioned` says which version routed: version 1 sends the key `k` to the binding `k.v1`, version 2 to
//! `k.v2`. `bench` is what the tests stand on; `tried` is about candidates, `load` about what happens to
//! messages meanwhile, `refused` about files that are not taken, `pinned` about exchanges.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with the HTTP suite; a part is used here")]
#[path = "../http/asking.rs"]
mod asking;
mod bench;
#[allow(dead_code, reason = "shared with the suite of reloads; a part is used here")]
#[path = "../reload/deploy.rs"]
mod deploy;
mod load;
mod pinned;
mod refused;
#[allow(dead_code, reason = "shared with the interop suite; a part is used here")]
#[path = "../interop/rust/session.rs"]
mod session;
mod tried;
