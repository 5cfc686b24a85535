//! Where a peer that cannot be had is named, so that no test is passed over in silence. The tests of every crate include
//! this file, because they share nothing else.
#![allow(clippy::print_stderr, unreachable_pub, reason = "a skipped test is told of, from wherever this is included")]

use std::io::Write as _;

/// Names a peer whose tests are skipped in the list that `make test` ends with.
pub fn skip(peer: &str) {
    eprintln!("skipped: {peer}");
    let list =
        std::env::var("SALLYPORT_SKIPPED").map(|list| std::fs::File::options().append(true).create(true).open(list));
    // Tests run as an ordinary user too, who may not write it; root's run has named the peer then.
    if let Ok(Ok(mut list)) = list {
        let _ = writeln!(list, "{peer}");
    }
}
