//! A session comes from an approach, with its recording open.
//! error: E0063

use sallyport::session::Session;

fn out_of_nothing() -> Session {
    Session {}
}
