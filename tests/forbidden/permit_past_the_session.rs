//! An account is asked for through an open session, never of the policy directly.
//! error: E0624

use sallyport::access::{Access, Approach};

fn skip_the_recording(access: &Access, approach: &Approach) {
    let _ = access.permit_ssh(approach, "root");
}
