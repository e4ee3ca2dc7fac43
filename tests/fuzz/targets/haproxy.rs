//! libFuzzer's way into [`xvip_fuzz::haproxy`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xvip_fuzz::haproxy(data));
