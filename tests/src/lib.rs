//! Sallyport against real peers: the library half is empty, the tests are in `main.rs`.
