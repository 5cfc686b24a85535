//! Names inside the tailnet, asked for over TCP (RFC 7766): the resolver of the system cannot see into it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::DeviceFile;
use super::reach::Reach;

/// Asks the name servers of a device's file.
#[derive(Debug)]
pub(super) struct Resolver {
    servers: Vec<IpAddr>,
    search: Vec<String>,
}

impl Resolver {
    pub(super) fn new(file: &DeviceFile) -> Self {
        Self { servers: file.dns.clone(), search: file.search.clone() }
    }

    /// The addresses of `host`, IPv4 first, as resolv.conf(5) has names looked up: one with a dot as it is first, one without
    /// below each of the search domains first.
    ///
    /// # Errors
    /// When it is no name, has no address, or no server answers.
    pub(super) async fn addresses(&self, reach: &Reach, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut failed = io::Error::other("the device's file names no DNS server");
        for name in self.candidates(host)? {
            for server in &self.servers {
                match timeout(PATIENCE, ask(reach, *server, &name)).await {
                    Ok(Ok(found)) if !found.is_empty() => return Ok(found),
                    // This server has the word on that name.
                    Ok(Ok(_)) => {
                        failed = io::Error::other("no such name");
                        break;
                    }
                    Ok(Err(error)) => failed = error,
                    Err(_) => failed = io::ErrorKind::TimedOut.into(),
                }
            }
        }
        Err(failed)
    }

    fn candidates(&self, host: &str) -> io::Result<Vec<Name>> {
        let as_it_is = Name::from_str(host).map_err(io::Error::other)?;
        if host.ends_with('.') {
            return Ok(vec![as_it_is]);
        }
        let below = self.search.iter().filter_map(|domain| Name::from_str(&format!("{host}.{domain}.")).ok());
        let mut names: Vec<Name> = below.collect();
        let mut whole = as_it_is;
        whole.set_fqdn(true);
        names.insert(if host.contains('.') { 0 } else { names.len() }, whole);
        Ok(names)
    }
}

/// Both kinds of address that one server knows of a name; none where it has no such name.
async fn ask(reach: &Reach, server: IpAddr, name: &Name) -> io::Result<Vec<IpAddr>> {
    let mut stream = reach.dial(SocketAddr::new(server, PORT)).await?;
    let mut found = Vec::new();
    for kind in [RecordType::A, RecordType::AAAA] {
        let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
        message.add_query(Query::query(name.clone(), kind));
        message.metadata.recursion_desired = true;
        let query = message.to_vec().map_err(io::Error::other)?;
        stream.write_u16(u16::try_from(query.len()).map_err(io::Error::other)?).await?;
        stream.write_all(&query).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        let answer = Message::from_vec(&answer).map_err(io::Error::other)?;
        if answer.metadata.id != message.metadata.id {
            return Err(io::Error::other("the name server answered something else"));
        }
        match answer.metadata.response_code {
            ResponseCode::NoError => {}
            ResponseCode::NXDomain | ResponseCode::Refused => return Ok(Vec::new()),
            other => return Err(io::Error::other(format!("the name server failed: {other}"))),
        }
        found.extend(answer.answers.iter().filter_map(|record| match record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        }));
    }
    Ok(found)
}

/// Where name servers listen.
const PORT: u16 = 53;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_in_the_order_of_resolv_conf() {
        let resolver =
            Resolver { servers: Vec::new(), search: vec!["corp.internal".to_owned(), "example.com".to_owned()] };
        let names = |host: &str| resolver.candidates(host).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names("web1"), ["web1.corp.internal.", "web1.example.com.", "web1."]);
        assert_eq!(names("web1.corp.internal").first().unwrap(), "web1.corp.internal.");
        assert_eq!(names("web1."), ["web1."]);
        assert!(resolver.candidates("a..b").is_err());
    }
}
