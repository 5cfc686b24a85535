//! Both ends of an scp channel are strangers, and so is the command line that begins it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    sallyport::fuzzing::scp(bytes);
    sallyport::fuzzing::command(bytes);
});
