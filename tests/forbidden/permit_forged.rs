//! A permit has private fields: only a decision makes one.
//! error: E0451

use sallyport::access::SshPermit;

fn forge(permit: SshPermit) -> SshPermit {
    SshPermit { account: "root".to_owned(), ..permit }
}
