//! libFuzzer's way into [`xvip_fuzz::page`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xvip_fuzz::page(data));
