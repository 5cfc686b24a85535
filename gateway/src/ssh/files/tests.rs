use proptest::prelude::*;
use sallyport_recorder::{Direction, FileResult};

use super::*;

/// A channel with both ends played by the test.
struct Channel {
    transfer: Transfer,
    events: Vec<Event>,
    told: Vec<String>,
}

impl Channel {
    fn sftp(download: bool, upload: bool) -> Self {
        let transfer = Transfer::sftp(0, FileRule::giving(download, upload));
        let mut channel = Self { transfer, events: Vec::new(), told: Vec::new() };
        assert_eq!(channel.up(&packet(1, &[0, 0, 0, 3])), packet(1, &[0, 0, 0, 3]));
        assert_eq!(channel.down(&packet(2, &[0, 0, 0, 3])), packet(2, &[0, 0, 0, 3]));
        channel
    }

    fn scp(line: &str) -> Self {
        let command = ScpCommand::read(line.as_bytes()).unwrap();
        Self { transfer: Transfer::scp(0, command), events: Vec::new(), told: Vec::new() }
    }

    fn take(&mut self, passed: Passed) -> Vec<u8> {
        assert_eq!(passed.broken, None);
        self.events.extend(passed.events);
        self.told.extend(passed.told);
        passed.pieces.concat()
    }

    /// What reaches the target of these bytes.
    fn up(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut chunk = Bytes::copy_from_slice(bytes);
        let passed = self.transfer.client_sent(Duration::ZERO, &mut chunk);
        assert!(chunk.is_empty(), "it waits");
        self.take(passed)
    }

    /// What reaches the client of these bytes.
    fn down(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut chunk = Bytes::copy_from_slice(bytes);
        let passed = self.transfer.target_sent(Duration::ZERO, &mut chunk);
        assert!(chunk.is_empty(), "it waits");
        self.take(passed)
    }

    /// Passes a request, and gives it this answer.
    fn ask(&mut self, request: &[u8], answer: &[u8]) {
        assert_eq!(self.up(request), request, "not passed on");
        assert_eq!(self.down(answer), answer);
    }

    fn end(mut self) -> Vec<Event> {
        self.events.extend(self.transfer.finish(Duration::ZERO));
        self.events
    }
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len() + 1).unwrap().to_be_bytes().to_vec();
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// A request or answer of these fields.
fn message(kind: u8, id: u32, fields: &[Field<'_>]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for field in fields {
        match field {
            Field::Text(text) => {
                body.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                body.extend(text.as_bytes());
            }
            Field::Word(word) => body.extend(word.to_be_bytes()),
            Field::Long(long) => body.extend(long.to_be_bytes()),
        }
    }
    packet(kind, &body)
}

enum Field<'a> {
    Text(&'a str),
    Word(u32),
    Long(u64),
}

use Field::{Long, Text, Word};

fn open(id: u32, path: &str, flags: u32) -> Vec<u8> {
    message(3, id, &[Text(path), Word(flags), Word(0)])
}

fn write(id: u32, handle: &str, content: &str) -> Vec<u8> {
    message(6, id, &[Text(handle), Long(0), Text(content)])
}

fn read(id: u32, handle: &str) -> Vec<u8> {
    message(5, id, &[Text(handle), Long(0), Word(32_768)])
}

fn status(id: u32, code: u32, said: &str) -> Vec<u8> {
    message(101, id, &[Word(code), Text(said), Text("")])
}

fn handle(id: u32, handle: &str) -> Vec<u8> {
    message(102, id, &[Text(handle)])
}

/// The file events: path, direction, read, written, unconfirmed, result, why.
type Row<'a> = (&'a str, Direction, u64, u64, u64, FileResult, &'a str);

fn files(events: &[Event]) -> Vec<Row<'_>> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::File { path, name, direction, read, written, unconfirmed, result, why, .. } => {
                let path = if name.is_empty() { path } else { name };
                Some((path.as_str(), *direction, *read, *written, *unconfirmed, *result, why.as_str()))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn a_file_is_one_event_with_what_the_target_confirmed() {
    let mut channel = Channel::sftp(true, true);
    channel.ask(&open(1, "/up", 0x1a), &handle(1, "h"));
    channel.ask(&write(2, "h", "hello"), &status(2, 0, ""));
    channel.ask(&write(3, "h", "more"), &status(3, 4, "No space left on device"));
    channel.ask(&message(4, 4, &[Text("h")]), &status(4, 0, ""));
    channel.ask(&open(5, "/down", 1), &handle(5, "h"));
    channel.ask(&read(6, "h"), &message(103, 6, &[Text("content")]));
    channel.ask(&read(7, "h"), &status(7, 1, "End of file"));
    channel.ask(&message(4, 8, &[Text("h")]), &status(8, 0, ""));
    channel.ask(&open(9, "/gone", 1), &status(9, 2, "No such file"));
    let events = channel.end();
    assert_eq!(
        files(&events),
        [
            ("/up", Direction::Upload, 0, 5, 0, FileResult::Failed, "failure (4): No space left on device"),
            ("/down", Direction::Download, 7, 0, 0, FileResult::Ok, ""),
        ]
    );
    let failed = events.iter().any(|event| {
        matches!(event, Event::FileChange { action, path, result: FileResult::Failed, why, .. }
            if action == "open" && path == "/gone" && why == "no such file (2)")
    });
    assert!(failed, "{events:?}");
}

#[test]
fn a_refused_request_is_answered_between_two_packets_of_the_targets() {
    let mut channel = Channel::sftp(true, false);
    channel.ask(&open(1, "/down", 1), &handle(1, "h"));
    assert_eq!(channel.up(&read(2, "h")), read(2, "h"));
    let data = message(103, 2, &[Text("a long content")]);
    let (begun, rest) = data.split_at(20);
    assert_eq!(channel.down(begun), begun);
    let remove = message(13, 3, &[Text("/etc/passwd")]);
    assert_eq!(channel.up(&[remove, read(4, "h")].concat()), read(4, "h"), "what is not refused goes on");
    assert_eq!(channel.down(b""), b"", "not in the middle of a packet");
    let answer = channel.down(rest);
    let ours = answer.strip_prefix(rest).unwrap();
    assert_eq!(ours.get(4..13), Some(&[101, 0, 0, 0, 3, 0, 0, 0, 3][..]));
    assert!(text(ours).contains("uploading or changing files is not allowed"), "{}", text(ours));
    assert_eq!(channel.told.len(), 1);
    assert!(matches!(&channel.events[..], [Event::Refused { what, .. }] if what == "sftp remove /etc/passwd"));
}

#[test]
fn each_direction_gives_its_own_requests_and_nothing_else() {
    let path = || message(13, 9, &[Text("/x")]);
    let attributes = |kind, size| message(kind, 9, &[Text("h"), Word(1), Long(size)]);
    let extended = |name, fields: &[&str]| {
        let fields: Vec<_> = [name].iter().chain(fields).map(|text| Text(text)).collect();
        message(200, 9, &fields)
    };
    let copy = message(200, 9, &[Text("copy-data"), Text("h"), Long(0), Long(0), Text("h"), Long(0)]);
    let two = |kind| message(kind, 9, &[Text("/x"), Text("/y")]);
    for (name, request, download, upload) in [
        ("stat", message(17, 9, &[Text("/x")]), true, true),
        ("opendir", message(11, 9, &[Text("/x")]), true, true),
        ("limits", extended("limits@openssh.com", &[]), true, true),
        ("statvfs", extended("statvfs@openssh.com", &["/x"]), true, true),
        ("open read", open(9, "/x", 1), true, false),
        ("open nothing, which reads", open(9, "/x", 0), true, false),
        ("open write", open(9, "/x", 0x2), false, true),
        ("open append", open(9, "/x", 0x6), false, true),
        ("open create, write", open(9, "/x", 0x1a), false, true),
        ("open append alone, which reads", open(9, "/x", 0x4), false, false),
        ("open read, truncate", open(9, "/x", 0x11), false, false),
        ("open read, write", open(9, "/x", 0x3), false, false),
        ("open with a flag of later versions", open(9, "/x", 0x101), false, false),
        ("read", read(9, "h"), true, false),
        ("write", write(9, "h", "x"), false, true),
        ("remove", path(), false, true),
        ("mkdir", message(14, 9, &[Text("/x"), Word(0)]), false, true),
        ("rmdir", message(15, 9, &[Text("/x")]), false, true),
        ("rename", two(18), false, true),
        ("symlink", two(20), false, true),
        ("setstat", attributes(9, 0), false, true),
        ("truncate by fsetstat", attributes(10, 0), false, true),
        ("lsetstat", message(200, 9, &[Text("lsetstat@openssh.com"), Text("/x"), Word(0)]), false, true),
        ("posix-rename", extended("posix-rename@openssh.com", &["/x", "/y"]), false, true),
        ("hardlink", extended("hardlink@openssh.com", &["/x", "/y"]), false, true),
        ("fsync", extended("fsync@openssh.com", &["h"]), false, true),
        ("copy-data", copy, false, false),
        ("an extension that is not known", extended("vim@example.com", &["/x"]), false, false),
        ("a packet of version 6", message(21, 9, &[Text("/x"), Text("/y")]), false, false),
    ] {
        for (rule, passes) in [((true, false), download), ((false, true), upload), ((true, true), true)] {
            let mut channel = Channel::sftp(rule.0, rule.1);
            // Something is open under the handle h, whichever way the rule lets it be.
            channel.ask(&open(1, "/h", if rule.0 { 1 } else { 2 }), &handle(1, "h"));
            let onward = channel.up(&request);
            assert_eq!(onward, if passes { request.clone() } else { Vec::new() }, "{name} under {rule:?}");
            let answered = text(&channel.down(b"")).contains("is not allowed");
            assert_eq!(answered, !passes, "{name} under {rule:?}");
        }
    }
}

#[test]
fn asks_for_no_later_version_than_it_reads() {
    let mut channel =
        Channel { transfer: Transfer::sftp(0, FileRule::giving(true, true)), events: vec![], told: vec![] };
    assert_eq!(channel.up(&packet(1, &[0, 0, 0, 6])), packet(1, &[0, 0, 0, 3]));
    let mut version = Bytes::from(packet(2, &[0, 0, 0, 4]));
    assert!(channel.transfer.target_sent(Duration::ZERO, &mut version).broken.is_some());
}

#[test]
fn what_the_end_cuts_off_says_so() {
    let mut channel = Channel::sftp(true, true);
    channel.ask(&open(1, "/up", 0x1a), &handle(1, "u"));
    channel.ask(&open(2, "/down", 1), &handle(2, "d"));
    channel.ask(&write(3, "u", "1234"), &status(3, 0, ""));
    let half = write(4, "u", "12345678");
    channel.up(&half[..half.len() - 3]);
    channel.up(b"");
    channel.transfer.target_sent(Duration::ZERO, &mut Bytes::new());
    let events = channel.end();
    assert_eq!(
        files(&events),
        [
            ("/up", Direction::Upload, 0, 4, 5, FileResult::CutOff, "the channel ended before the file was closed"),
            ("/down", Direction::Download, 0, 0, 0, FileResult::CutOff, "the channel ended before the file was closed"),
        ]
    );
}

#[test]
fn broken_packets_close_the_channel() {
    for (name, bytes) in [
        ("no length", packet(3, b"\0\0")),
        ("a length of nothing", vec![0, 0, 0, 0]),
        ("a length beyond all", vec![0xff, 0xff, 0xff, 0xff, 6]),
        ("a request of a megabyte", vec![0, 0x10, 0, 0, 3]),
        ("a string beyond its packet", packet(13, &[0, 0, 0, 1, 0, 0, 0, 9, b'x'])),
        ("a write beyond its packet", packet(6, &[0, 0, 0, 1, 0, 0, 0, 1, b'h', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9])),
        ("a long handle", packet(6, &[&[0, 0, 0, 1, 0, 0, 1, 1][..], &[0; 300]].concat())),
        ("a second version", packet(1, &[0, 0, 0, 3])),
        ("a number twice", [message(17, 1, &[Text("a")]), message(17, 1, &[Text("a")])].concat()),
    ] {
        let mut channel = Channel::sftp(true, true);
        let broken = channel.transfer.client_sent(Duration::ZERO, &mut Bytes::from(bytes)).broken.unwrap();
        assert!(broken.to_string().starts_with("the client broke the protocol"), "{name}: {broken}");
    }
    for (name, bytes) in [
        ("an answer to nothing", status(5, 0, "")),
        ("data for an open", message(103, 1, &[Text("x")])),
        ("a handle twice", [handle(1, "h"), handle(2, "h")].concat()),
        ("a long handle", handle(1, &"h".repeat(257))),
        ("no answer's type", packet(17, &[0, 0, 0, 1])),
        ("data beyond its packet", packet(103, &[0, 0, 0, 3, 0, 0, 0, 9, 1])),
    ] {
        let mut channel = Channel::sftp(true, true);
        channel.up(&[open(1, "/a", 1), open(2, "/b", 1)].concat());
        let broken = channel.transfer.target_sent(Duration::ZERO, &mut Bytes::from(bytes)).broken.unwrap();
        assert!(broken.to_string().starts_with("the target broke the protocol"), "{name}: {broken}");
    }
}

#[test]
fn a_handle_may_be_as_long_as_the_draft_lets_it_be() {
    let mut channel = Channel::sftp(true, true);
    let long = "h".repeat(256);
    channel.ask(&open(1, "/a", 1), &handle(1, &long));
    channel.ask(&read(2, &long), &message(103, 2, &[Text("x")]));
}

#[test]
fn a_client_with_too_much_under_way_waits() {
    let mut channel = Channel::sftp(true, true);
    channel.ask(&open(0, "/big", 1), &handle(0, "h"));
    let requests: Vec<u8> = (1..=20_000).flat_map(|id| read(id, "h")).collect();
    let mut chunk = Bytes::from(requests);
    let passed = channel.transfer.client_sent(Duration::ZERO, &mut chunk);
    let first: usize = passed.pieces.iter().map(Bytes::len).sum();
    assert_eq!(first, 16_384 * read(1, "h").len());
    let mut answer = Bytes::from(message(103, 1, &[Text("x")]));
    assert!(channel.transfer.target_sent(Duration::ZERO, &mut answer).wake);
    channel.transfer.client_sent(Duration::ZERO, &mut chunk);
    assert_eq!(chunk.len(), (20_000 - 16_385) * read(1, "h").len());
}

#[test]
fn scp_uploads_are_files_with_their_folders() {
    let mut channel = Channel::scp("scp -r -p -t dir");
    assert_eq!(channel.down(b"\0"), b"\0");
    for (sent, answer) in [
        ("T1700000000 0 1700000000 0\n", "\0"),
        ("D0755 0 sub\n", "\0"),
        ("C0644 5 a b\n", "\0"),
        ("hello\0", "\0"),
        ("C0644 0 empty\n", "\0"),
        ("\0", "\0"),
        ("C0600 3 no\n", "\x01scp: dir/sub/no: Permission denied\n"),
        ("E\n", "\0"),
        ("C0600 4 top\n", "\0"),
        ("abcd\0", "\x01scp: dir/top: No space left\n"),
        ("\x01scp: gone: No such file or directory\n", ""),
        ("C0600 9 cut\n", "\0"),
        ("abcd", ""),
    ] {
        assert_eq!(channel.up(sent.as_bytes()), sent.as_bytes());
        assert_eq!(channel.down(answer.as_bytes()), answer.as_bytes());
    }
    let events = channel.end();
    let up = Direction::Upload;
    assert_eq!(
        files(&events),
        [
            ("sub/a b", up, 0, 5, 0, FileResult::Ok, ""),
            ("sub/empty", up, 0, 0, 0, FileResult::Ok, ""),
            ("sub/no", up, 0, 0, 0, FileResult::Failed, "scp: dir/sub/no: Permission denied"),
            ("top", up, 0, 0, 4, FileResult::Failed, "scp: dir/top: No space left"),
            ("cut", up, 0, 0, 4, FileResult::CutOff, "the channel ended before the file was closed"),
        ]
    );
    let said =
        |wanted: &str| events.iter().any(|event| matches!(event, Event::FileChange { why, .. } if why == wanted));
    assert!(said("scp: gone: No such file or directory"));
}

#[test]
fn scp_downloads_are_counted_the_other_way() {
    let mut channel = Channel::scp("scp -f file");
    for (answer, sent) in
        [("\0", "C0644 7 file\n"), ("\0", "content\0"), ("\0", "C0644 2 file2\n"), ("\0", "xx\x01scp: I/O error\n")]
    {
        assert_eq!(channel.up(answer.as_bytes()), answer.as_bytes());
        assert_eq!(channel.down(sent.as_bytes()), sent.as_bytes());
    }
    channel.up(b"\0");
    let down = Direction::Download;
    assert_eq!(
        files(&channel.end()),
        [("file", down, 7, 0, 0, FileResult::Ok, ""), ("file2", down, 2, 0, 0, FileResult::Failed, "scp: I/O error"),]
    );
}

#[test]
fn an_scp_sender_that_does_not_wait_is_made_to() {
    let mut channel = Channel::scp("scp -t file");
    let mut chunk = Bytes::from_static(b"C0644 5 file\nhello\0");
    let step = |channel: &mut Channel, chunk: &mut Bytes| {
        let passed = channel.transfer.client_sent(Duration::ZERO, chunk);
        text(&channel.take(passed))
    };
    assert_eq!(step(&mut channel, &mut chunk), "");
    assert!(channel.transfer.target_sent(Duration::ZERO, &mut Bytes::from_static(b"\0")).wake);
    assert_eq!(step(&mut channel, &mut chunk), "C0644 5 file\n");
    // The target refuses the file, so that what follows is no content.
    let no = channel.transfer.target_sent(Duration::ZERO, &mut Bytes::from_static(b"\x01scp: no\n"));
    channel.take(no);
    let broken = channel.transfer.client_sent(Duration::ZERO, &mut chunk);
    assert!(broken.broken.is_none() && broken.events.is_empty());
    let mut rest = Bytes::from_static(b"\n");
    assert!(channel.transfer.client_sent(Duration::ZERO, &mut rest).broken.is_some(), "hello is no record");
}

#[test]
fn scp_that_is_none_closes_the_channel() {
    for bytes in ["Welcome to web1\n", "C0644 5 ../x\n", "E\n", "C0644 99999999999999999999 x\n"] {
        let mut channel = Channel::scp("scp -t file");
        channel.down(b"\0");
        assert!(channel.transfer.client_sent(Duration::ZERO, &mut Bytes::from(bytes)).broken.is_some(), "{bytes:?}");
    }
    let mut channel = Channel::scp("scp -t file");
    assert!(channel.transfer.target_sent(Duration::ZERO, &mut Bytes::from_static(b"hello\n")).broken.is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn sftp_holds_whatever_the_bytes_are(rights in 0_u8..4, input in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzzing::sftp(&[&[rights], input.as_slice()].concat());
        fuzzing::sftp(&[&[rights | 4], input.as_slice()].concat());
    }

    #[test]
    fn scp_holds_whatever_the_bytes_are(which: u8, input in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzzing::scp(&[&[which], input.as_slice()].concat());
    }

    #[test]
    fn scp_holds_in_a_conversation(
        which: u8,
        records in proptest::collection::vec(
            prop_oneof![
                Just("C0644 3 a\n"), Just("D0755 0 d\n"), Just("E\n"), Just("abc\0"), Just("\0"), Just("\x01no\n"),
                Just("T1 0 1 0\n"), Just("C0644 0 b\n"),
            ],
            0..40,
        ),
        ways: u64,
    ) {
        let mut input = vec![which];
        for (number, record) in records.iter().enumerate() {
            input.extend([u8::from(ways >> (number % 64) & 1 == 1), u8::try_from(record.len()).unwrap()]);
            input.extend(record.as_bytes());
        }
        fuzzing::scp(&input);
    }

    #[test]
    fn a_command_line_holds_whatever_it_is(line in "(scp|/usr/bin/scp) (-[tfrpdvq]{1,3} ){1,2}[ -~\\n\\t]{0,24}") {
        fuzzing::command(line.as_bytes());
    }
}
