#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pistream_fuzz::markdown::run(bytes));
