//! A process with the real broker in it, from the client's greeting to the sealed recording, behind a plain listener.

use std::path::Path;
use std::sync::Arc;

use sallyport::clock::Clock;
use sallyport::credentials::PostgresVault;
use sallyport::identity::{Device, Origin};
use sallyport::postgres::{self, Asked, Broker, Greeting};
use sallyport::session::{self, Runner};
use sallyport::state::{Folder, Keys};
use sallyport::target::Target;
use sallyport::workers::Workers;
use sallyport_recorder::SessionId;
use sallyport_tailnet::Stream;
use tokio::net::TcpListener;

use crate::middle::Middle;

/// What is at hand behind the door.
struct Behind {
    runner: Arc<Runner>,
    broker: Arc<Broker>,
    device: Device,
    target: Target,
}

/// Serves on the loopback port `words[1]` with the policy and the target that lie in the folder `words[0]`: each connection
/// is taken as if it had come through the tunnel from alice's one device.
pub(crate) fn serve(words: &[String]) {
    let (folder, port) = (Path::new(&words[0]), words[1].parse::<u16>().unwrap());
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let keys = Keys::open(&Folder::open(&folder.join("state")).unwrap()).unwrap();
        let (middle, mut calls) = Middle::new(folder, &read("policy"), &read("target.toml"), Clock::system()).await;
        let broker = Arc::new(Broker::new(
            PostgresVault::new(&keys, "corp.internal", Clock::system()),
            middle.runner.state.roles(),
            Clock::system(),
        ));
        let (device, target) = (middle.device.clone(), middle.target.clone());
        let behind = Arc::new(Behind { runner: Arc::clone(&middle.runner), broker, device, target });
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let workers = Workers::start().unwrap();
        println!("listening");
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let to = (behind.target.addresses[0], 5432).into();
            let origin = calls.origin(behind.device.key, behind.device.addresses[0], to).await;
            let behind = Arc::clone(&behind);
            workers.carry(Stream::Tcp(stream), move |stream| attend(behind, origin, stream)).unwrap();
        }
    });
}

async fn attend(behind: Arc<Behind>, origin: Origin, stream: Stream) {
    let Ok(greeting) = Greeting::read(stream).await else { return };
    let decision = behind.runner.access.approach(&origin);
    let Ok(asked) = behind.broker.asked(greeting, Some(&behind.target)).await else { return };
    match (decision, asked) {
        (Ok(approach), Asked::Session(client)) => {
            let id = SessionId::new(Clock::system().now());
            let broker = Arc::clone(&behind.broker);
            session::run(&behind.runner, approach, id, |session| postgres::serve(client, session, broker)).await;
        }
        (Ok(_), Asked::Cancel(canceller)) => behind.broker.cancels().deliver(behind.device.key, canceller).await,
        (Err(refusal), asked) => postgres::decline(asked, &refusal.failure).await,
    }
}
