//! The threads that carry connections, each with a runtime of its own.
//!
//! A connection is half a dozen tasks that hand each packet on. On one thread that costs as much as a call; on a runtime of
//! several threads each hand-over wakes another one, which was an eighth of what the relay cost. So a connection stays on the
//! thread that it was given to, the one with the fewest of them. What blocks goes to the runtime's blocking threads as
//! everywhere.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sallyport_tailnet::{DetachedStream, Stream};
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Carries connections until it is dropped, which ends those that are left.
#[derive(Debug)]
pub struct Workers {
    each: Vec<Worker>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts a thread for each processor.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start() -> io::Result<Self> {
        let stop = CancellationToken::new();
        let count = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let each = (0..count).map(|number| Worker::start(number, stop.clone())).collect::<io::Result<_>>()?;
        Ok(Self { each, _stop: stop.drop_guard() })
    }

    /// Carries `stream` as `carry` says, on the thread that has the fewest connections.
    ///
    /// # Errors
    /// When the stream cannot leave the runtime that it came on.
    pub fn carry<F>(&self, stream: Stream, carry: impl FnOnce(Stream) -> F + Send + 'static) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stream = stream.detach()?;
        if let Some(worker) = self.each.iter().min_by_key(|worker| worker.connections.load(Ordering::Relaxed)) {
            worker.carry(stream, carry);
        }
        Ok(())
    }
}

impl Worker {
    fn start(number: usize, stop: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().thread_name("worker-blocking").build()?;
        let worker = Self { runtime: runtime.handle().clone(), connections: Arc::default() };
        let run = move || {
            runtime.block_on(stop.cancelled());
            // A disk that does not answer must not hold up the end.
            runtime.shutdown_background();
        };
        thread::Builder::new().name(format!("worker-{number}")).spawn(run)?;
        Ok(worker)
    }

    fn carry<F>(&self, stream: DetachedStream, carry: impl FnOnce(Stream) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let counted = Counted::new(Arc::clone(&self.connections));
        self.runtime.spawn(async move {
            let _counted = counted;
            // A stream that cannot be watched is closed by letting go of it.
            if let Ok(stream) = stream.attach() {
                carry(stream).await;
            }
        });
    }
}

/// One connection of a worker, for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(connections: Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self(connections)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn every_connection_stays_on_its_thread_and_threads_get_equally_many() {
        let workers = Workers::start().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, mut threads) = mpsc::channel(64);
        let mut callers = Vec::new();
        for _connection in 0..workers.each.len() * 3 {
            #[expect(clippy::disallowed_methods, reason = "the caller's side")]
            let (caller, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            let seen = seen.clone();
            let echo = move |mut stream: Stream| async move {
                let before = thread::current().id();
                let byte = stream.read_u8().await.unwrap();
                tokio::task::spawn(async {}).await.unwrap();
                stream.write_u8(byte).await.unwrap();
                assert_eq!(before, thread::current().id());
                seen.send(before).await.unwrap();
                std::future::pending().await
            };
            workers.carry(Stream::Tcp(accepted.unwrap().0), echo).unwrap();
            let mut caller = caller.unwrap();
            caller.write_u8(7).await.unwrap();
            assert_eq!(caller.read_u8().await.unwrap(), 7);
            callers.push(caller);
        }
        let mut counts = HashMap::new();
        for _connection in &callers {
            *counts.entry(threads.recv().await.unwrap()).or_insert(0) += 1;
        }
        assert!(counts.len() == workers.each.len() && counts.values().all(|count| *count == 3), "{counts:?}");
        assert!(!counts.contains_key(&thread::current().id()));

        drop(workers);
        for mut caller in callers {
            assert_eq!(caller.read(&mut [0]).await.unwrap_or(0), 0, "a connection outlived its worker");
        }
    }
}
