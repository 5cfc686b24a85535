//! The bytes of a forwarded connection, both ways, until one end closes it. Each way is a pump of its own: one that stalls
//! holds up neither the other nor any other channel.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client, server};
use sallyport_recorder::Event;
use sallyport_tailnet::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::Shared;
use super::granted::Grant;
use crate::failure::Failure;
use crate::ssh::observe;
use crate::ssh::window::Window;

/// One forwarded connection.
pub(super) struct Forwarding<'a> {
    shared: &'a Shared,
    number: u32,
    grant: Grant,
    began: Instant,
    sent: AtomicU64,
    received: AtomicU64,
}

/// Which way a pump carries.
#[derive(Clone, Copy)]
enum Way {
    ToTarget,
    ToClient,
}

impl<'a> Forwarding<'a> {
    /// For channel `number`, while `grant` lasts.
    pub(super) fn new(shared: &'a Shared, number: u32, grant: Grant) -> Self {
        Self { shared, number, grant, began: Instant::now(), sent: AtomicU64::new(0), received: AtomicU64::new(0) }
    }

    /// Carries between the client's end of a channel and the target's.
    pub(super) async fn carry(&self, near: Channel<server::Msg>, far: Channel<client::Msg>) -> Result<(), Failure> {
        let (from_client, to_client) = near.split();
        let (from_target, to_target) = far.split();
        let result = tokio::select! {
            result = self.pump(Way::ToTarget, from_client, &to_client, &to_target) => result,
            result = self.pump(Way::ToClient, from_target, &to_target, &to_client) => result,
            why = self.grant.taken_away() => self.take_away(why).await,
            _ = self.shared.farewell.said() => Ok(()),
        };
        let _ = to_client.close().await;
        let _ = to_target.close().await;
        result
    }

    /// Carries between the client's end of a channel and a connection inside this gateway.
    pub(super) async fn carry_inside(&self, near: Channel<server::Msg>, far: Stream) -> Result<(), Failure> {
        let (from_client, to_client) = near.split();
        let (from_inside, to_inside) = tokio::io::split(far);
        let result = tokio::select! {
            result = self.inwards(from_client, &to_client, to_inside) => result,
            () = self.outwards(from_inside, &to_client) => Ok(()),
            why = self.grant.taken_away() => self.take_away(why).await,
            _ = self.shared.farewell.said() => Ok(()),
        };
        let _ = to_client.close().await;
        result
    }

    /// A forwarded connection has no place for a sentence.
    async fn take_away(&self, why: String) -> Result<(), Failure> {
        let sentence = self.shared.take_away(self.number, &self.grant.granted, why).await?;
        self.shared.notify(sentence).await;
        Ok(())
    }

    /// The event of its end.
    pub(super) fn closed(&self) -> Event {
        Event::ForwardClosed {
            channel: self.number,
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            lasted_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Carries what `from` gives to `to`, and opens the window of `from` again through `back`, until `from` is closed. What
    /// waits there leaves memory together with its window.
    async fn pump<A, B>(
        &self,
        way: Way,
        mut from: ChannelReadHalf,
        back: &ChannelWriteHalf<A>,
        to: &ChannelWriteHalf<B>,
    ) -> Result<(), Failure>
    where
        A: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
        B: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
    {
        let mut window = Window::open(back, self.shared.session.budget()).await;
        while let Some(message) = from.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    let size = self.count(way, data.len());
                    // An end that takes nothing any more says so itself, with its own close.
                    let _ = to.data_bytes(data).await;
                    window.taken(size).await;
                }
                // No forward has a second stream (RFC 4254, section 7.2).
                ChannelMsg::ExtendedData { data, .. } => window.taken(data.len()).await,
                ChannelMsg::Eof => drop(to.eof().await),
                ChannelMsg::Close => break,
                message => self.refuse(&message, back).await?,
            }
        }
        Ok(())
    }

    async fn inwards(
        &self,
        mut from: ChannelReadHalf,
        back: &ChannelWriteHalf<server::Msg>,
        mut to: WriteHalf<Stream>,
    ) -> Result<(), Failure> {
        let mut window = Window::open(back, self.shared.session.budget()).await;
        while let Some(message) = from.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    let size = self.count(Way::ToTarget, data.len());
                    let _ = to.write_all(&data).await;
                    window.taken(size).await;
                }
                ChannelMsg::ExtendedData { data, .. } => window.taken(data.len()).await,
                ChannelMsg::Eof => drop(to.shutdown().await),
                ChannelMsg::Close => break,
                message => self.refuse(&message, back).await?,
            }
        }
        Ok(())
    }

    async fn outwards(&self, mut from: ReadHalf<Stream>, to: &ChannelWriteHalf<server::Msg>) {
        let mut piece = bytes::BytesMut::with_capacity(PIECE);
        while let Ok(1..) = from.read_buf(&mut piece).await {
            self.count(Way::ToClient, piece.len());
            if to.data_bytes(piece.split().freeze()).await.is_err() {
                return;
            }
            piece.reserve(PIECE);
        }
        let _ = to.eof().await;
    }

    /// Refuses what no forward has a use for.
    async fn refuse<A>(&self, message: &ChannelMsg, back: &ChannelWriteHalf<A>) -> Result<(), Failure>
    where
        A: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
    {
        let Some(want_reply) = observe::wants_reply(message) else { return Ok(()) };
        let event = observe::refused(self.number, message, "a forwarded connection takes no requests".to_owned());
        self.shared.session.record(event).await?;
        if want_reply {
            let _ = back.reply(false).await;
        }
        Ok(())
    }

    fn count(&self, way: Way, size: usize) -> usize {
        let counter = match way {
            Way::ToTarget => &self.sent,
            Way::ToClient => &self.received,
        };
        counter.fetch_add(size as u64, Ordering::Relaxed);
        self.shared.session.touch();
        size
    }
}

/// Bytes that are read from inside at once: a packet of the largest usual size (RFC 4253, section 6.1).
const PIECE: usize = 32 * 1024;
