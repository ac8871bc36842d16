#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| estoppel_kit::fuzz::lists(bytes));
