//! A process with the real broker in it, from the client's greeting to the sealed recording, behind a plain listener.

use std::path::Path;

use sallyport::clock::Clock;
use sallyport::ssh::Vault;
use sallyport::state::{Folder, Keys};
use tokio::net::TcpListener;

use crate::door::Door;
use crate::middle::Middle;

/// Serves on the loopback port `words[1]` with the policy and the target that lie in the folder `words[0]`, and leaves the
/// public keys there that the client and sshd have to trust.
pub(crate) fn serve(words: &[String]) {
    let (folder, port) = (Path::new(&words[0]), words[1].parse::<u16>().unwrap());
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let keys = Keys::open(&Folder::open(&folder.join("state")).unwrap()).unwrap();
        let (middle, calls) = Middle::new(folder, &read("policy"), &read("target.toml"), Clock::system()).await;
        for (file, key) in [("user_ca", &keys.user_ca), ("host_ca", &keys.host_ca)] {
            std::fs::write(folder.join(file), key.public_key().to_openssh().unwrap()).unwrap();
        }
        let door = Door::new(&middle, calls, Vault::new(&keys, "corp.internal", Clock::system()));
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        println!("listening");
        door.serve(listener).await;
        // Until now, or the sessions would end.
        drop(middle.world);
    });
}
