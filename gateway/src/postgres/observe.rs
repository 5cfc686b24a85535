//! From frames to the events that are recorded. Pure: no I/O, no clock.

use std::time::Duration;

use sallyport_recorder::Event;

use super::wire::Frame;

/// Follows one session.
#[derive(Debug, Default)]
pub(super) struct Observer {}

impl Observer {
    /// Of a session that begins.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A frame that the client sent.
    pub(super) fn client_sent(&mut self, _at: Duration, _frame: Frame<'_>, _out: &mut Vec<Event>) {}

    /// A frame that the server sent.
    pub(super) fn server_sent(&mut self, _at: Duration, _frame: Frame<'_>, _out: &mut Vec<Event>) {}
}
