//! A session comes from an approach, with its recording open.
//! error: E0451

use sallyport::access::Approach;
use sallyport::session::Session;

fn elsewhere(session: Session, approach: Approach) -> Session {
    Session { approach, ..session }
}
