//! Write a Leveret exchange type in Rust.
