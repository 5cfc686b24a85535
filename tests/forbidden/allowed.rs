//! The way that is meant to be taken, so that the others fail for their own reason and not for a missing crate.

use sallyport::access::Permit;
use sallyport::failure::Failure;
use sallyport::session::Session;

pub async fn in_order(session: &Session) -> Result<Permit, Failure> {
    let _transport = session.dial().await?;
    session.authorize("ubuntu")
}
