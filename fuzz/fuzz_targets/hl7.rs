//! Any bytes through framing, reading and field access: no panic, no byte in two frames.
#![no_main]

use foramen::hl7::{Options, field, read, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let options = Options::default();
    let mut end = 0;
    for frame in split(input, &options) {
        assert!(frame.offset >= end || frame.bytes.is_empty());
        end = frame.offset + frame.bytes.len();
        if frame.reject.is_none() {
            let _ = read(frame.bytes, &options);
            let _ = field(frame.bytes, "OBX[2]-5[1].1", &options);
        }
    }
});
