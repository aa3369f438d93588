//! The target `sip_stream`, for `cargo fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::sip_stream::run(bytes));
