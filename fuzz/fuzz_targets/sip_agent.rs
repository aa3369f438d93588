//! The target `sip_agent`, for `cargo fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::sip_agent::run(bytes));
