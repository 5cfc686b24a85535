//! Frames of both sides of a database session through the observer: whatever they are, it may not panic, has a bound, and
//! records no more statements than were answered or sent.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sallyport::postgres::observe::Observer;
use sallyport::postgres::wire::{Frame, HEAD_MAX};
use sallyport_policies::ParameterRule;

fuzz_target!(|bytes: &[u8]| {
    let mut observer = Observer::new(if bytes.len() % 2 == 0 { ParameterRule::Record } else { ParameterRule::Hide });
    let (mut events, mut frames, mut rest) = (Vec::new(), 0, bytes);
    while let [side, tag, length, after @ ..] = rest {
        let (head, after) = after.split_at(usize::from(*length).min(after.len()).min(HEAD_MAX));
        let whole = u32::try_from(head.len()).expect("short") + u32::from(*side >> 4);
        let frame = Frame { tag: *tag, length: whole, head };
        let at = Duration::from_millis(frames);
        if side % 2 == 0 {
            observer.client_sent(at, frame, &mut events);
        } else {
            observer.server_sent(at, frame, &mut events);
        }
        frames += 1;
        rest = after;
    }
    observer.finish(Duration::from_millis(frames), &mut events);
    assert!(events.len() as u64 <= 2 * frames + 1, "{} events of {frames} frames", events.len());
});
