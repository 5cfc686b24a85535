use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use std::net::IpAddr;
use tokio::net::UdpSocket;

use super::*;
use crate::addresses::Plan;

fn zone() -> Zone {
    let plan = Plan::new("100.64.0.0/16".parse().unwrap(), "fd12:3456:789a::/48".parse().unwrap());
    let web1 = plan.both("100.64.128.0".parse().unwrap());
    let many: Vec<IpAddr> = (0..100).map(|last| IpAddr::from([100, 64, 129, last])).collect();
    Zone::new("corp.internal", plan, [("web1", web1.as_slice()), ("many", many.as_slice())])
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask(message: &Message, transport: Transport) -> Message {
    match answer(&zone(), &message.to_vec().unwrap(), transport) {
        Reply::Answer(bytes) => Message::from_vec(&bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn data(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn answers_for_targets_whole_and_bare_in_any_case() {
    for name in ["web1.corp.internal.", "WEB1.Corp.Internal.", "web1."] {
        let response = ask(&query(name, RecordType::A), Transport::Udp);
        assert_eq!(data(&response), ["100.64.128.0"], "{name}");
        assert!(response.metadata.authoritative);
        assert_eq!(response.queries[0].name().to_ascii(), name, "the question comes back as it was");
    }
    assert_eq!(
        data(&ask(&query("web1.corp.internal.", RecordType::AAAA), Transport::Udp)),
        ["fd12:3456:789a::6440:8000"]
    );
    assert_eq!(data(&ask(&query("web1.corp.internal.", RecordType::ANY), Transport::Udp)).len(), 2);
    assert_eq!(data(&ask(&query("corp.internal.", RecordType::A), Transport::Udp)), ["100.64.0.1"]);
}

#[test]
fn tells_missing_types_from_missing_names() {
    for (name, code) in [
        ("web1.corp.internal.", ResponseCode::NoError),
        ("web2.corp.internal.", ResponseCode::NXDomain),
        ("a.web1.corp.internal.", ResponseCode::NXDomain),
    ] {
        let response = ask(&query(name, RecordType::MX), Transport::Udp);
        assert_eq!((response.metadata.response_code, response.answers.len()), (code, 0), "{name}");
        assert!(matches!(response.authorities[0].data, RData::SOA(_)), "{name}: caches need to know for how long");
    }
}

#[test]
fn answers_reverse_names_of_its_own_ranges() {
    for (name, expected) in [
        ("0.128.64.100.in-addr.arpa.", "web1.corp.internal."),
        ("0.0.0.8.0.4.4.6.0.0.0.0.0.0.0.0.0.0.0.0.a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa.", "web1.corp.internal."),
        ("1.0.64.100.in-addr.arpa.", "corp.internal."),
    ] {
        assert_eq!(data(&ask(&query(name, RecordType::PTR), Transport::Udp)), [expected], "{name}");
    }
    let free = ask(&query("9.9.64.100.in-addr.arpa.", RecordType::PTR), Transport::Udp);
    assert_eq!(free.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn leaves_other_names_to_others() {
    for name in ["example.com.", "web2.", "internal.", ".", "xcorp.internal.", "1.0.0.127.in-addr.arpa."] {
        let bytes = query(name, RecordType::A).to_vec().unwrap();
        assert_eq!(answer(&zone(), &bytes, Transport::Udp), Reply::Forward, "{name}");
        let Reply::Answer(refused) = super::answer::refuse(&bytes) else { panic!("{name}") };
        assert_eq!(Message::from_vec(&refused).unwrap().metadata.response_code, ResponseCode::Refused);
    }
}

#[test]
fn cuts_long_answers_over_udp_and_says_so() {
    let mut long = query("many.corp.internal.", RecordType::A);
    for (payload, records) in [(None, 0), (Some(512), 0), (Some(4096), 0)] {
        long.edns = payload.map(|payload| {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            edns
        });
        let response = ask(&long, Transport::Udp);
        assert_eq!((response.metadata.truncation, response.answers.len()), (true, records), "{payload:?}");
        assert_eq!(response.edns.is_some(), payload.is_some(), "EDNS is answered with EDNS");
    }
    let whole = ask(&long, Transport::Tcp);
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 100));
}

#[test]
fn refuses_what_it_does_not_do() {
    let mut chaos = query("web1.corp.internal.", RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let mut update = query("web1.corp.internal.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    let mut newer = query("web1.corp.internal.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    newer.set_edns(edns);
    let mut two = query("web1.corp.internal.", RecordType::A);
    two.add_query(two.queries[0].clone());
    let transfer = query("corp.internal.", RecordType::AXFR);
    for (name, message, code) in [
        ("class", chaos, ResponseCode::Refused),
        ("update", update, ResponseCode::NotImp),
        ("EDNS version", newer, ResponseCode::BADVERS),
        ("two questions", two, ResponseCode::FormErr),
        ("transfer", transfer, ResponseCode::Refused),
    ] {
        // As numbers: 16 is BADVERS here and BADSIG elsewhere.
        let answered = ask(&message, Transport::Tcp).metadata.response_code;
        assert_eq!(u16::from(answered), u16::from(code), "{name}");
    }
}

#[test]
fn is_silent_to_answers_and_to_what_has_no_header() {
    let mut reply = query("web1.corp.internal.", RecordType::A);
    reply.metadata.message_type = MessageType::Response;
    for bytes in [reply.to_vec().unwrap(), Vec::new(), vec![0; 11]] {
        assert_eq!(answer(&zone(), &bytes, Transport::Udp), Reply::Silence);
    }
    let Reply::Answer(error) = answer(&zone(), &[1, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0xc0], Transport::Udp) else {
        panic!()
    };
    let error = Message::from_vec(&error).unwrap();
    assert_eq!((error.metadata.id, error.metadata.response_code), (0x0102, ResponseCode::FormErr));
}

proptest::proptest! {
    #[test]
    fn any_bytes_get_a_short_answer_or_none(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
        if let Reply::Answer(reply) = answer(&zone(), &bytes, Transport::Udp) {
            assert!(reply.len() <= 1232 && reply[..2] == bytes[..2] && reply[2] & 0x80 != 0);
        }
    }

    #[test]
    fn a_bent_query_gets_a_short_answer_or_none(at in 0..40_usize, byte in proptest::num::u8::ANY, cut in 0..60_usize) {
        let mut bytes = query("web1.corp.internal.", RecordType::A).to_vec().unwrap();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        bytes.truncate(cut);
        if let Reply::Answer(reply) = answer(&zone(), &bytes, Transport::Udp) {
            assert!(reply.len() <= 1232);
        }
    }
}

fn resolver(upstream: &[SocketAddr]) -> Resolver {
    Resolver::new(watch::channel(Arc::new(zone())).1, upstream)
}

#[tokio::test]
async fn answers_several_queries_on_one_stream() {
    let (mut client, server) = tokio::io::duplex(4096);
    let task = tokio::spawn(async move { serve_stream(server, address(1), &resolver(&[])).await });
    for name in ["web1.corp.internal.", "example.com."] {
        write_message(&mut client, &query(name, RecordType::A).to_vec().unwrap()).await.unwrap();
        let response = Message::from_vec(&read_message(&mut client).await.unwrap()).unwrap();
        let refused = response.metadata.response_code == ResponseCode::Refused;
        assert_eq!(refused, name == "example.com.");
    }
    drop(client);
    task.await.unwrap();
}

#[tokio::test]
async fn passes_other_names_on_when_told_to_and_takes_only_the_right_answer() {
    let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = [0; 512];
        let (length, from) = upstream.recv_from(&mut buffer).await.unwrap();
        let mut message = Message::from_vec(&buffer[..length]).unwrap();
        message.metadata.message_type = MessageType::Response;
        message.metadata.response_code = ResponseCode::NXDomain;
        upstream.send_to(&message.to_vec().unwrap(), from).await.unwrap();
        let (length, from) = upstream.recv_from(&mut buffer).await.unwrap();
        let mut wrong = buffer[..length].to_vec();
        wrong[0] ^= 1;
        wrong[2] |= 0x80;
        upstream.send_to(&wrong, from).await.unwrap();
    });
    let bytes = query("example.com.", RecordType::A).to_vec().unwrap();
    let answered = forward::ask(&[address], &bytes, Transport::Udp).await.unwrap();
    let answered = Message::from_vec(&answered).unwrap();
    assert_eq!((answered.metadata.id, answered.metadata.response_code), (7, ResponseCode::NXDomain));
    assert_eq!(forward::ask(&[address], &bytes, Transport::Udp).await, None, "an answer to another query");
    task.await.unwrap();
}

fn address(last: u8) -> IpAddr {
    [100, 64, 0, last].into()
}

#[tokio::test]
async fn an_address_that_has_enough_queries_waiting_asks_no_more_over_a_stream_and_others_do() {
    let upstream = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let resolver = resolver(&[upstream.local_addr().unwrap()]);
    let _asked = tokio::spawn(async move {
        loop {
            let mut asked = upstream.accept().await.unwrap().0;
            let mut message = read_message(&mut asked).await.unwrap();
            message[2] |= 0x80;
            write_message(&mut asked, &message).await.unwrap();
        }
    });
    let asks = async |from: IpAddr| {
        let (mut client, server) = tokio::io::duplex(4096);
        let client = async move {
            write_message(&mut client, &query("example.com.", RecordType::A).to_vec().unwrap()).await.unwrap();
            read_message(&mut client).await
        };
        tokio::join!(client, serve_stream(server, from, &resolver)).0.is_ok()
    };
    let held: Vec<_> = std::iter::from_fn(|| resolver.waiting.take(address(1))).collect();
    assert_eq!(held.len(), MAX_OF_ONE);
    assert!(!asks(address(1)).await);
    assert!(asks(address(2)).await);
    let others: Vec<_> = (2..=255).filter_map(|last| resolver.waiting.take(address(last))).collect();
    assert_eq!(others.len(), MAX_FORWARDED - MAX_OF_ONE);
    assert!(!asks(address(3)).await, "all together have enough");
    drop(held);
    assert!(asks(address(1)).await, "and what was answered leaves its place");
}
