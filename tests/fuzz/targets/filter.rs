#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leveret_fuzz::filter::check(bytes));
