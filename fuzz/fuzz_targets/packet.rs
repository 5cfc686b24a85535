//! Packets come from devices and from the kernel: cutting and joining them never panics, and loses nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sallyport_tailnet::fuzzing::{cut, join};

fuzz_target!(|bytes: &[u8]| {
    cut(bytes);
    join(bytes);
});
