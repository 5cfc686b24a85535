//! One connection, one session.
//! error: E0277

fn needs_clone<T: Clone>() {}

fn twice() {
    needs_clone::<sallyport::session::Session>();
}
