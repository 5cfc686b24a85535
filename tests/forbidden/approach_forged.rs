//! An approach has private fields as well.
//! error: E0451

use sallyport::access::Approach;

fn forge(approach: Approach) -> Approach {
    Approach { network_rule: String::new(), ..approach }
}
