//! A permit is for one connection.
//! error: E0277

fn needs_clone<T: Clone>() {}

fn keep_for_later() {
    needs_clone::<sallyport::access::SshPermit>();
}
