//! The least that can stand between a client and a server: it copies bytes and does nothing else, a thread for each way of each
//! connection.

use std::io::{Read as _, Write as _};
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
        let mut buffer = vec![0; 256 * 1024];
        // A connection that breaks off ends as one that is closed does.
        while let Ok(read @ 1..) = from.read(&mut buffer)
            && to.write_all(&buffer[..read]).is_ok()
        {}
        let _ = to.shutdown(Shutdown::Write);
    });
}
