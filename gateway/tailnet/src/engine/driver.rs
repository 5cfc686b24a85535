//! Moves the bytes: three tasks between the socket, the core and the device.
//!
//! The device's task waits for the socket, so that the kernel's queue on the device is what fills up, and TCP slows
//! down; the socket's task never waits for the device.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_udp::RecvMeta;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use super::device::{Device, FRAME, Next};
use super::socket::{WireSocket, sender};
use super::{Core, Inbound, Outbound, TICKS_PER_SECOND};
use crate::Error;
use crate::offload::VirtioHeader;

/// A running engine. It stops when dropped, and its flows end.
#[derive(Debug)]
pub(crate) struct Engine {
    core: Arc<Core>,
    socket: Arc<WireSocket>,
    tasks: [AbortHandle; 3],
}

impl Engine {
    /// Starts the three tasks on the current runtime.
    pub(crate) fn start(core: Core, socket: WireSocket, device: Device) -> Self {
        let (core, socket, device) = (Arc::new(core), Arc::new(socket), Arc::new(device));
        let inbound = receive(Arc::clone(&core), Arc::clone(&socket), Arc::clone(&device));
        let outbound = transmit(Arc::clone(&core), Arc::clone(&socket), device);
        let ticks = tick(Arc::clone(&core), Arc::clone(&socket));
        let tasks = [
            tokio::spawn(inbound).abort_handle(),
            tokio::spawn(outbound).abort_handle(),
            tokio::spawn(ticks).abort_handle(),
        ];
        Self { core, socket, tasks }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.socket.local_addr().map_err(|source| Error::System { doing: "asking for the WireGuard port", source })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.core.close();
    }
}

async fn receive(core: Arc<Core>, socket: Arc<WireSocket>, device: Arc<Device>) {
    let mut inbound = Inbound::new(BUFFERS * BUFFER);
    let mut memory = vec![0; BUFFERS * BUFFER];
    let mut metas = [RecvMeta::default(); BUFFERS];
    loop {
        let received = {
            let mut free = memory.chunks_mut(BUFFER);
            let mut buffers: [IoSliceMut<'_>; BUFFERS] =
                std::array::from_fn(|_| IoSliceMut::new(free.next().unwrap_or_default()));
            socket.receive(&mut buffers, &mut metas).await
        };
        match received {
            Ok(count) => {
                for (meta, buffer) in metas.iter().zip(memory.chunks(BUFFER)).take(count) {
                    let datagrams = buffer.get(..meta.len).unwrap_or_default();
                    let send = &mut |to, packet: &[u8]| socket.try_send(to, packet);
                    inbound.take(&core, sender(meta), datagrams, meta.stride, send);
                }
                inbound.deliver(Instant::now(), &mut |virtio, arena, pieces| {
                    if let Err(error) = device.write(virtio, arena, pieces) {
                        tracing::debug!(%error, "the device took no packet");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "receiving from the WireGuard port failed");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}

async fn transmit(core: Arc<Core>, socket: Arc<WireSocket>, device: Arc<Device>) {
    let mut outbound = Outbound::new();
    let mut frame = vec![0; FRAME];
    loop {
        let mut take = |virtio: VirtioHeader, packet: &mut [u8]| {
            if let Some(answer) = outbound.take(&core, Instant::now(), virtio, packet) {
                let whole = 0..answer.len();
                // Our own kernel's packet had no way to go; where the answer has none either, it times out.
                let _: io::Result<()> = device.write(VirtioHeader::default(), &answer, &[whole]);
            }
            if outbound.is_full() { Next::Stop } else { Next::More }
        };
        let read = device.read(&mut frame, &mut take).await;
        if let Err(error) = read {
            tracing::error!(%error, "the tunnel's device is gone: restart the gateway");
            return;
        }
        for (run, datagrams) in outbound.transmits() {
            socket.send(run.to, datagrams, run.size).await;
        }
        outbound.clear();
    }
}

async fn tick(core: Arc<Core>, socket: Arc<WireSocket>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / TICKS_PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        core.tick(Instant::now(), &mut |to, packet| socket.try_send(to, packet));
    }
}

/// Buffers for one receiving system call.
const BUFFERS: usize = 8;
/// One buffer: the longest run that GRO makes of datagrams.
const BUFFER: usize = 64 * 1024;
/// A pause after a receiving error, so that a lasting one does not spin.
const AFTER_ERROR: Duration = Duration::from_millis(20);
