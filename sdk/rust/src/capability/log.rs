//! The broker's log. Grant: `log`. At most 20 lines a second, each at most 1,024 bytes; more are counted
//! and left out.
//!
//! ```
//! # use leveret_sdk::log;
//! log::info!("the cache holds {} entries", 3);
//! log::warning!("no entry");
//! ```

use super::imports::log as host;

#[doc(inline)]
pub use crate::generated::leveret::routing::log::Level;

/// Writes a line.
pub fn write(level: Level, text: &str) {
    host::write(level, text);
}

/// Writes a line of level `debug`, formatted as by `format!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Debug, &::std::format!($($text)+)) };
}

/// Writes a line of level `info`, formatted as by `format!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_info {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Info, &::std::format!($($text)+)) };
}

/// Writes a line of level `warning`, formatted as by `format!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warning {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Warning, &::std::format!($($text)+)) };
}

/// Writes a line of level `error`, formatted as by `format!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_error {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Error, &::std::format!($($text)+)) };
}

#[doc(inline)]
pub use crate::{__log_debug as debug, __log_error as error, __log_info as info, __log_warning as warning};
