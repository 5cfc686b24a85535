//! Who calls is known from the tunnel key alone.
//! error: E0451

use sallyport::identity::{Caller, Device};
use std::sync::Arc;

fn pretend(caller: Caller, device: Arc<Device>) -> Caller {
    Caller { device, ..caller }
}
