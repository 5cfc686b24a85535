//! Both ends of an SFTP channel are strangers: nothing panics or grows, and no request that the rule does not give reaches the
//! target, however the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sallyport::fuzzing::sftp(bytes));
