//! The figures: ours beside a direct connection or wireguard-go, alternating, medians.
fn main() {}
