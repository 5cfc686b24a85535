//! What a database's clients and servers send: start-up packets, headers and errors are read without surprise, and a start-up
//! packet is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sallyport::postgres::wire::{CancelKey, ErrorFields, Header, Hello, ServerFinal, ServerFirst};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Hello::Startup(startup)) = Hello::read(bytes) {
        assert_eq!(&startup.packet()[4..], bytes);
    }
    if let Ok(key) = CancelKey::read(bytes) {
        assert_eq!(key.payload(), bytes);
    }
    let _ = (ErrorFields::read(bytes), ServerFirst::read(bytes), ServerFinal::read(bytes));
    let mut rest = bytes;
    while let Ok(Some(header)) = Header::read(rest) {
        rest = rest.get(5 + header.payload()..).unwrap_or_default();
    }
});
