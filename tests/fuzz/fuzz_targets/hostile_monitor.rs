#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pvkit_fuzz_targets::run("hostile_monitor", data));
