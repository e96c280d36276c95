#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| plimsoll_catalog::fuzzing::run("python_zip", bytes));
