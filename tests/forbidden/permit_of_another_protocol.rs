//! What a database's policy gives opens no SSH channel.
//! error: E0308

use sallyport::access::{PostgresPermit, SshPermit};

fn stretch(permit: PostgresPermit) -> SshPermit {
    permit
}
