//! The least that can stand between a client and a server: it copies bytes and does nothing else, a thread for each way of each
//! connection.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

/// Listens on the loopback port `words[0]` and carries what comes to the port `words[1]`.
pub(crate) fn serve(words: &[String]) {
    let [from, to] = [&words[0], &words[1]].map(|word| word.parse::<u16>().unwrap());
    for client in TcpListener::bind(("127.0.0.1", from)).unwrap().incoming() {
        let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", to)).unwrap());
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        carry(client.try_clone().unwrap(), server.try_clone().unwrap());
        carry(server, client);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        // A connection that breaks off ends as one that is closed does.
        let _copied = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}
