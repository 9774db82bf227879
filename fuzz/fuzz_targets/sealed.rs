//! The target `sealed`, guided by coverage (`fuzz/guided`).

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outrigger_fuzz::check("sealed", bytes));
