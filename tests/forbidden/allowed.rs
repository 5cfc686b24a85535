//! The way that is meant to be taken, so that the others fail for their own reason and not for a missing crate.

use std::sync::Arc;

use sallyport::access::SshPermit;
use sallyport::failure::Failure;
use sallyport::session::Session;

pub async fn in_order(session: &Session) -> Result<Arc<SshPermit>, Failure> {
    let _transport = session.dial().await?;
    session.authorize_ssh("ubuntu")
}
