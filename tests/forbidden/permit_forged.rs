//! A permit has private fields: only a decision makes one.
//! error: E0451

use sallyport::access::Permit;

fn forge(permit: Permit) -> Permit {
    Permit { account: "root".to_owned(), ..permit }
}
