//! The fuzzer's door to what reads SFTP and scp, and what has to hold whatever the bytes are. `cargo test` plays the same.
//!
//! An input is a rule and then pieces, each with the direction that it comes from; an observer is fed with them in one go and
//! byte by byte.

use std::time::Duration;

use bytes::Bytes;
use sallyport_recorder::Event;

use super::{Broken, FileRule, Passed, ScpCommand, Transfer};

/// What came through, each way, and what was written down.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    up: Vec<u8>,
    down: Vec<u8>,
    events: Vec<Event>,
    broken: Option<Broken>,
}

impl Seen {
    /// Whether the other, fed byte by byte, is the same. Where the protocol broke, more or less of the last pieces may have
    /// been passed on.
    fn agree(&self, bytewise: &Self) {
        assert_eq!(self.broken, bytewise.broken);
        if self.broken.is_none() {
            assert_eq!(self.events, bytewise.events);
            // Where our answers stand among the target's depends on when those come.
            assert_eq!((&self.up, self.down.len()), (&bytewise.up, bytewise.down.len()));
        } else {
            assert!(bytewise.up.starts_with(&self.up) || self.up.starts_with(&bytewise.up));
        }
    }
}

/// SFTP: no packet that the rule does not give reaches the target, and what reaches the client are whole packets.
pub(crate) fn sftp(input: &[u8]) {
    let Some((rights, input)) = input.split_first() else { return };
    let (download, upload) = (rights & 1 != 0, rights & 2 != 0);
    let script = match rights & 4 {
        0 => pieces(input),
        _ => script(input),
    };
    let observer = || Transfer::sftp(7, FileRule::giving(download, upload));
    let (seen, bytewise) = (play(observer(), &script, usize::MAX), play(observer(), &script, 1));
    seen.agree(&bytewise);
    for packet in packets(&seen.up) {
        let (kind, rest) = packet.split_first().map_or((0, &[][..]), |(kind, rest)| (*kind, rest));
        let changes = matches!(kind, 6 | 9 | 10 | 11..=15 | 18 | 20) && !matches!(kind, 11 | 12);
        assert!(upload || !changes, "a change was passed on: {kind}");
        assert!(download || kind != 5, "a request to read was passed on");
        if kind == 3 {
            let flags = open_flags(rest);
            assert!(upload || flags.is_none_or(|flags| flags & !1 == 0), "an open to write was passed on");
            assert!(download || flags.is_none_or(|flags| flags & 3 == 2), "an open to read was passed on");
        }
    }
}

/// scp: what is passed on is what came, in order and no more; what is written down never says more than that.
pub(crate) fn scp(input: &[u8]) {
    let Some((which, input)) = input.split_first() else { return };
    let line: &[u8] = if which & 1 == 0 { b"scp -r -t dir" } else { b"scp -r -p -f dir" };
    let Some(command) = ScpCommand::read(line) else { return };
    let observer = || Transfer::scp(7, command.clone());
    let script = pieces(input);
    let sent = |upward| script.iter().filter(move |(up, _)| *up == upward).flat_map(|(_, piece)| piece.clone());
    // Who speaks first decides what an answer is about, so that the two runs may differ; what holds of one holds of both.
    for seen in [play(observer(), &script, usize::MAX), play(observer(), &script, 1)] {
        for (passed, upward) in [(&seen.up, true), (&seen.down, false)] {
            assert!(sent(upward).collect::<Vec<u8>>().starts_with(passed), "other bytes than came");
        }
        for event in &seen.events {
            if let Event::File { read, written, unconfirmed, size: Some(size), .. } = event {
                assert!(read + written + unconfirmed <= *size, "more than the file has");
                let carried = if command.uploads() { seen.up.len() } else { seen.down.len() };
                assert!(read + written + unconfirmed <= carried as u64, "more than was passed on");
            }
        }
    }
}

/// A command line: whatever is taken for scp has no word in it that a shell would act on.
pub(crate) fn command(line: &[u8]) {
    if let Some(command) = ScpCommand::read(line) {
        assert!(!line.iter().any(|byte| b";&|<>()`$!%^\n\r\0".contains(byte)), "{command:?}");
        let (mut quote, mut escaped) = (None, false);
        for byte in line {
            match (quote, byte) {
                _ if escaped => {
                    assert_eq!((quote, *byte), (None, b' '), "{command:?}");
                    escaped = false;
                }
                (_, b'\\') => escaped = true,
                (None, b'\'' | b'"') => quote = Some(*byte),
                (Some(end), byte) if end == *byte => quote = None,
                _ => {}
            }
        }
        assert!(quote.is_none() && !escaped, "{command:?}");
    }
}

/// Pieces with their directions: a byte that says which, a byte that says how long, and the bytes.
fn pieces(mut input: &[u8]) -> Vec<(bool, Vec<u8>)> {
    let mut pieces = Vec::new();
    while let Some(([way, size], rest)) = input.split_first_chunk::<2>() {
        let (piece, rest) = rest.split_at_checked(usize::from(*size)).unwrap_or((rest, &[]));
        pieces.push((way & 1 == 0, piece.to_vec()));
        input = rest;
    }
    pieces
}

/// Packets that mostly make sense, four bytes each, so that few bytes reach deep.
fn script(input: &[u8]) -> Vec<(bool, Vec<u8>)> {
    let mut pieces = vec![(true, vec![0, 0, 0, 5, 1, 0, 0, 0, 3]), (false, vec![0, 0, 0, 5, 2, 0, 0, 0, 3])];
    for [kind, id, handle, value] in input.as_chunks::<4>().0 {
        let upward = kind & 0x80 == 0;
        let kinds: &[u8] = if upward { &REQUESTS } else { &[101, 102, 103, 104] };
        let kind = kinds.get(usize::from(kind & 0x7f) % kinds.len()).copied().unwrap_or_default();
        let mut body = vec![kind, 0, 0, 0, id % 8];
        let string = |body: &mut Vec<u8>, text: &[u8]| {
            body.extend(u32::try_from(text.len()).unwrap_or_default().to_be_bytes());
            body.extend(text);
        };
        match kind {
            3 => {
                string(&mut body, &[b'a', *handle]);
                body.extend([0, 0, 0, *value, 0, 0, 0, 0]);
            }
            5 => {
                string(&mut body, &[handle % 4]);
                body.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, *value]);
            }
            6 => {
                string(&mut body, &[handle % 4]);
                body.extend([0; 8]);
                string(&mut body, &vec![b'x'; usize::from(value % 16)]);
            }
            9 | 10 | 14 => {
                string(&mut body, &[handle % 4]);
                body.extend([0, 0, 0, 4, 0, 0, 1, *value]);
            }
            18 | 20 => {
                string(&mut body, b"from");
                string(&mut body, &[*value]);
            }
            101 => body.extend([0, 0, 0, value % 9, 0, 0, 0, 0, 0, 0, 0, 0]),
            103 => string(&mut body, &vec![b'y'; usize::from(value % 16)]),
            200 => {
                let names = ["copy-data", "posix-rename@openssh.com", "fsync@openssh.com", "limits@openssh.com", "x"];
                let name = names.get(usize::from(*value) % names.len()).copied().unwrap_or_default();
                string(&mut body, name.as_bytes());
                string(&mut body, &[handle % 4]);
                body.extend([0; 16]);
                string(&mut body, &[value % 4]);
            }
            _ => string(&mut body, &[handle % 4]),
        }
        let mut packet = u32::try_from(body.len()).unwrap_or_default().to_be_bytes().to_vec();
        packet.extend(body);
        pieces.push((upward, packet));
    }
    pieces
}

const REQUESTS: [u8; 20] = [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 200, 21];

/// Feeds an observer, in pieces of `size` bytes at most, as the two pumps of a channel would.
fn play(mut observer: Transfer, script: &[(bool, Vec<u8>)], size: usize) -> Seen {
    let mut seen = Seen::default();
    let mut waiting = [Bytes::new(), Bytes::new()];
    for (upward, piece) in script {
        for part in piece.chunks(size.max(1)) {
            let [up, down] = &mut waiting;
            let place = if *upward { up } else { down };
            *place = [&place[..], part].concat().into();
            turn(&mut observer, &mut waiting, *upward, &mut seen);
            if seen.broken.is_some() {
                seen.events.extend(observer.finish(Duration::ZERO));
                return seen;
            }
        }
    }
    observer.client_ended();
    seen.events.extend(observer.finish(Duration::ZERO));
    seen
}

/// Takes what can be taken, first from the side that something came from, until neither side goes on.
fn turn(observer: &mut Transfer, waiting: &mut [Bytes; 2], upward: bool, seen: &mut Seen) {
    let mut upward = upward;
    let [up, down] = waiting;
    loop {
        let (place, onward) = if upward { (&mut *up, &mut seen.up) } else { (&mut *down, &mut seen.down) };
        let passed = match upward {
            true => observer.client_sent(Duration::ZERO, place),
            false => observer.target_sent(Duration::ZERO, place),
        };
        let Passed { pieces, events, wake, broken, .. } = passed;
        pieces.iter().for_each(|piece| onward.extend_from_slice(piece));
        seen.events.extend(events);
        seen.broken = broken;
        if !wake || seen.broken.is_some() {
            return;
        }
        upward = !upward;
    }
}

/// The whole packets of a stream.
fn packets(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut packets = Vec::new();
    while let Some((length, rest)) = stream.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((packet, rest)) = rest.split_at_checked(length) else { break };
        packets.push(packet);
        stream = rest;
    }
    packets
}

/// The flags of an open, after its type.
fn open_flags(rest: &[u8]) -> Option<u32> {
    let (length, rest) = rest.get(4..)?.split_first_chunk()?;
    let flags = rest.get(usize::try_from(u32::from_be_bytes(*length)).ok()?..)?;
    flags.first_chunk().map(|flags| u32::from_be_bytes(*flags))
}
