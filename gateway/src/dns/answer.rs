//! The answer to a query, as a pure function: bytes in, bytes out. Whatever comes in, nothing here panics or loops.

use std::collections::HashMap;
use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::addresses::Plan;

/// What the resolver knows at one moment. Immutable, and replaced whole.
#[derive(Clone, Debug)]
pub struct Zone {
    domain: Name,
    plan: Plan,
    by_name: HashMap<String, Vec<IpAddr>>,
    by_address: HashMap<IpAddr, String>,
}

/// What to do about a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Send this.
    Answer(Vec<u8>),
    /// It is about a name of somebody else's.
    Forward,
    /// It is no query, or an answer itself: answering could be abused.
    Silence,
}

/// What a query came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams: a long answer is cut, and says so.
    Udp,
    /// A stream.
    Tcp,
}

/// Whose name was asked for, and what there is.
enum Found {
    /// Ours, with these records of whatever type.
    Records(Vec<RData>),
    /// Ours, and there is no such name.
    Nothing,
    /// Not ours.
    Foreign,
}

impl Zone {
    /// The zone `domain` with the names and addresses of `hosts`. A name that cannot be in DNS is left out.
    #[must_use]
    pub fn new<'a>(domain: &str, plan: Plan, hosts: impl IntoIterator<Item = (&'a str, &'a [IpAddr])>) -> Self {
        let mut name = Name::from_ascii(domain).unwrap_or_else(|_| Name::root());
        name.set_fqdn(true);
        let mut zone = Self { domain: name, plan, by_name: HashMap::new(), by_address: HashMap::new() };
        for (host, addresses) in hosts {
            let host = host.to_ascii_lowercase();
            zone.by_address.extend(addresses.iter().map(|address| (*address, host.clone())));
            zone.by_name.insert(host, addresses.to_vec());
        }
        zone
    }

    fn find(&self, query: &Query) -> Found {
        let name = query.name();
        if let Ok(net) = name.parse_arpa_name() {
            return self.find_reverse(net);
        }
        let above = usize::from(self.domain.num_labels());
        let label = name.iter().next().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase());
        let host = label.and_then(|label| self.by_name.get(&label));
        match (self.domain.zone_of(name), name.iter().count()) {
            (true, labels) if labels == above => {
                let (v4, v6) = self.plan.gateway();
                Found::Records(vec![RData::A(A(v4)), RData::AAAA(AAAA(v6)), RData::SOA(self.soa())])
            }
            (true, labels) if labels == above + 1 => host.map_or(Found::Nothing, |addresses| found(addresses)),
            (true, _) => Found::Nothing,
            // Clients without the search domain ask for the bare name.
            (false, 1) => host.map_or(Found::Foreign, |addresses| found(addresses)),
            (false, _) => Found::Foreign,
        }
    }

    fn find_reverse(&self, net: ipnet::IpNet) -> Found {
        let address = net.addr();
        if !self.plan.contains(address) {
            return Found::Foreign;
        }
        if net.prefix_len() < net.max_prefix_len() {
            // A part of an address: there are names below it, and nothing at it.
            return Found::Records(Vec::new());
        }
        let (v4, v6) = self.plan.gateway();
        let host = match self.by_address.get(&address) {
            Some(host) => self.domain.prepend_label(host.as_str()).ok(),
            None if address == v4 || address == v6 => Some(self.domain.clone()),
            None => None,
        };
        host.map_or(Found::Nothing, |host| Found::Records(vec![RData::PTR(PTR(host))]))
    }

    /// Tells caches how long a missing name may be taken for missing (RFC 2308).
    fn soa(&self) -> SOA {
        let hostmaster = self.domain.prepend_label("hostmaster").unwrap_or_else(|_| self.domain.clone());
        SOA::new(self.domain.clone(), hostmaster, 1, 3600, 600, 86_400, TTL)
    }
}

fn found(addresses: &[IpAddr]) -> Found {
    let record = |address: &IpAddr| match address {
        IpAddr::V4(v4) => RData::A(A(*v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(*v6)),
    };
    Found::Records(addresses.iter().map(record).collect())
}

/// Answers `query` from `zone`.
#[must_use]
pub fn answer(zone: &Zone, query: &[u8], transport: Transport) -> Reply {
    let request = match read(query) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let mut response = response_to(&request);
    let [question] = request.queries.as_slice() else {
        return failed(response, ResponseCode::FormErr);
    };
    if request.metadata.op_code != OpCode::Query {
        return failed(response, ResponseCode::NotImp);
    }
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return failed(response, ResponseCode::BADVERS);
    }
    let transfer = matches!(question.query_type(), RecordType::AXFR | RecordType::IXFR);
    if question.query_class() != DNSClass::IN || transfer {
        return failed(response, ResponseCode::Refused);
    }
    let records = match zone.find(question) {
        Found::Foreign => return Reply::Forward,
        Found::Nothing => {
            response.metadata.response_code = ResponseCode::NXDomain;
            Vec::new()
        }
        Found::Records(records) => records,
    };
    response.metadata.authoritative = true;
    let wanted =
        |data: &RData| matches!(question.query_type(), RecordType::ANY) || data.record_type() == question.query_type();
    let records = records.into_iter().filter(wanted);
    response.add_answers(records.map(|data| Record::from_rdata(question.name().clone(), TTL, data)));
    if response.answers.is_empty() && zone.domain.zone_of(question.name()) {
        response.add_authority(Record::from_rdata(zone.domain.clone(), TTL, RData::SOA(zone.soa())));
    }
    sent(&response, limit(&request, transport))
}

/// Refuses `query`: it is about a name of somebody else's, and there is nobody to pass it on to.
pub(super) fn refuse(query: &[u8]) -> Reply {
    match read(query) {
        Ok(request) => failed(response_to(&request), ResponseCode::Refused),
        Err(reply) => reply,
    }
}

fn read(query: &[u8]) -> Result<Message, Reply> {
    // Not even a header, or an answer: two resolvers must not keep each other busy.
    let [first, second, flags, _, ..] = query else { return Err(Reply::Silence) };
    if query.len() < HEADER || flags & 0x80 != 0 {
        return Err(Reply::Silence);
    }
    match Message::from_vec(query) {
        Ok(request) if request.metadata.message_type == MessageType::Query => Ok(request),
        Ok(_) => Err(Reply::Silence),
        Err(_) => {
            let id = u16::from_be_bytes([*first, *second]);
            Err(sent(&Message::error_msg(id, OpCode::Query, ResponseCode::FormErr), HEADER))
        }
    }
}

fn response_to(request: &Message) -> Message {
    let mut response = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
    response.metadata = Metadata::response_from_request(&request.metadata);
    response.add_queries(request.queries.iter().take(1).cloned());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD);
        response.set_edns(edns);
    }
    response
}

fn failed(mut response: Message, code: ResponseCode) -> Reply {
    response.metadata.response_code = code;
    if let Some(edns) = response.edns.as_mut() {
        edns.set_rcode_high(code.high());
    }
    sent(&response, UDP_PAYLOAD.into())
}

/// Writes a response; one that is longer than `limit` bytes is cut down to its question.
fn sent(response: &Message, limit: usize) -> Reply {
    match response.to_vec() {
        Ok(bytes) if bytes.len() <= limit => Reply::Answer(bytes),
        Ok(_) => response.truncate().to_vec().map_or(Reply::Silence, Reply::Answer),
        Err(_) => Reply::Silence,
    }
}

fn limit(request: &Message, transport: Transport) -> usize {
    match (transport, &request.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => 512,
        (Transport::Udp, Some(edns)) => usize::from(edns.max_payload().clamp(512, UDP_PAYLOAD)),
    }
}

/// How long an answer may be kept, in seconds: short, since a target can come or go at any time.
const TTL: u32 = 30;

/// A header's length, in bytes (RFC 1035, 4.1.1).
const HEADER: usize = 12;

/// The longest answer over UDP, in bytes: passes every path without fragments (DNS flag day 2020).
const UDP_PAYLOAD: u16 = 1232;
