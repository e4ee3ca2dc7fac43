//! libFuzzer's way into [`xvip_fuzz::datapath`]: stories are changed event by event as well as byte by byte.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xvip_fuzz::datapath(data));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    match xvip_fuzz::mutate::story(data, size, max_size, seed) {
        Some(size) => size,
        None => libfuzzer_sys::fuzzer_mutate(data, size, max_size),
    }
});
