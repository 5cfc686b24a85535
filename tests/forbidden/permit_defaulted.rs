//! There is no permit that nobody decided.
//! error: E0277

fn needs_default<T: Default>() {}

fn out_of_nothing() {
    needs_default::<sallyport::access::SshPermit>();
}
