//! A target that opens whatever it likes. A channel from it passes for what this very connection asked for, and for nothing
//! else, whatever the policy gives and whatever another session has asked.

use std::sync::Arc;

use russh::keys::{Algorithm, PrivateKey};
use russh::server::{self, Auth, ChannelOpenHandle, GlobalReply, GlobalRequest, Msg};
use russh::{Channel, ChannelMsg, ChannelType, Error};
use sallyport::ssh::{Kind, Scope};
use tokio::sync::mpsc;

use super::channels::FORWARDING;
use super::*;

/// Every channel that this target opens, and whether anybody took it.
type Report = Vec<(Kind, bool)>;

/// Lets everybody in and takes every channel; what it does with one is the test's own.
#[derive(Clone)]
struct Target<F>(F);

impl<F, W> server::Handler for Target<F>
where
    F: Fn(Channel<Msg>, server::Handle) -> W + Send,
    W: Future<Output = ()> + Send + 'static,
{
    type Error = Error;

    async fn auth_openssh_certificate(&mut self, _: &str, _: &russh::keys::Certificate) -> Result<Auth, Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open(
        &mut self,
        _: ChannelType,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut server::Session,
    ) -> Result<(), Error> {
        reply.accept().await;
        tokio::spawn((self.0)(channel, session.handle()));
        Ok(())
    }

    async fn global_request(
        &mut self,
        _: GlobalRequest,
        reply: GlobalReply,
        _: &mut server::Session,
    ) -> Result<(), Error> {
        reply.success(None);
        Ok(())
    }
}

/// Opens every kind of channel as soon as a program is asked for, and reports.
async fn open_everything(mut channel: Channel<Msg>, handle: server::Handle, reports: mpsc::Sender<Report>) {
    while !matches!(channel.wait().await, Some(ChannelMsg::Exec { .. }) | None) {}
    let mut report = Vec::new();
    for kind in Kind::ALL.iter().filter(|kind| kind.scope() == Scope::TargetChannel) {
        if let Some(opened) = open(&handle, *kind).await {
            report.push((*kind, opened));
        }
    }
    reports.send(report).await.unwrap();
    let (_, write) = channel.split();
    write.reply(true).await.unwrap();
    write.exit_status(0).await.unwrap();
    write.close().await.unwrap();
}

/// Opens a channel of this kind; `None` for the kind that this library cannot send.
async fn open(handle: &server::Handle, kind: Kind) -> Option<bool> {
    let opened = match kind {
        Kind::ForwardedTcpip => handle.channel_open_forwarded_tcpip("localhost", PORT, "127.0.0.1", 1).await,
        Kind::ForwardedStreamlocal => handle.channel_open_forwarded_streamlocal("/tmp/a/b.sock").await,
        Kind::Agent => handle.channel_open_agent().await,
        Kind::X11 => handle.channel_open_x11("127.0.0.1", 1).await,
        Kind::TargetSession => handle.channel_open_session().await,
        Kind::TargetDirectTcpip => handle.channel_open_direct_tcpip("localhost", 22, "127.0.0.1", 1).await,
        Kind::TargetDirectStreamlocal => handle.channel_open_direct_streamlocal("/tmp/a/b.sock").await,
        Kind::UnknownTargetChannel => return None,
        other => panic!("{other:?} is nothing that a target opens"),
    };
    Some(opened.is_ok())
}

/// What callers ask the target to listen on; nobody does, really.
const PORT: u32 = 8123;

/// A stand whose target does this with each channel.
pub(super) async fn stand<F, W>(play: F) -> Stand
where
    F: Fn(Channel<Msg>, server::Handle) -> W + Clone + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let public = key.public_key().to_openssh().unwrap();
    let config = Arc::new(server::Config { keys: vec![key], ..server::Config::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (config, target) = (Arc::clone(&config), Target(play.clone()));
            tokio::spawn(async move {
                if let Ok(running) = server::run_stream(config, stream, target).await {
                    let _ = running.await;
                }
            });
        }
    });
    Stand::build(FORWARDING, Some(&public), Some(port)).await
}

async fn opening() -> (Stand, mpsc::Receiver<Report>) {
    let (reports, reported) = mpsc::channel(8);
    (stand(move |channel, handle| open_everything(channel, handle, reports.clone())).await, reported)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_opens_nothing_that_nobody_asked_for() {
    let (stand, mut reports) = opening().await;
    let output = stand.run("ssh", &["web1", "true"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report = reports.recv().await.unwrap();
    assert_eq!(report.len(), 7);
    assert!(report.iter().all(|(_, opened)| !opened), "{report:?}");
    for kind in ["remote", "remote-stream-local", "agent", "x11", "local", "stream-local"] {
        stand.recorded(&format!(r#""type":"forward_refused","kind":"{kind}""#)).await;
    }
    stand.recorded(r#""what":"session channel","why":"the target's channel type"#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_forward_belongs_to_the_session_that_made_it() {
    let (stand, mut reports) = opening().await;
    let forward = format!("{PORT}:localhost:1");
    let _listening = stand.client("ssh", &["-N", "-R", &forward, "web1"]).spawn().unwrap();
    stand.recorded(&format!(r#""type":"listener_opened","kind":"remote","address":"localhost:{PORT}""#)).await;
    // Another session of the same caller, at the same time.
    let output = stand.run("ssh", &["web1", "true"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report = reports.recv().await.unwrap();
    assert!(report.contains(&(Kind::ForwardedTcpip, false)), "{report:?}");
    // The session that did ask for it gets it; its client dials nobody there, which is its own affair.
    let output = stand.run("ssh", &["-R", &forward, "web1", "true"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    stand.recorded(&format!(r#""kind":"remote","address":"localhost:{PORT}","why":"the client: "#)).await;
}

/// Says this before a program is asked for, and then speaks on the stream of errors.
async fn talk(channel: Channel<Msg>, early: &'static str) {
    let (mut read, write) = channel.split();
    write.data_bytes(early).await.unwrap();
    write.extended_data_bytes(1, "early\n").await.unwrap();
    let runs = |message: &ChannelMsg| matches!(message, ChannelMsg::Exec { .. } | ChannelMsg::RequestSubsystem { .. });
    while !read.wait().await.is_none_or(|message| runs(&message)) {}
    write.reply(true).await.unwrap();
    write.extended_data_bytes(1, "late\n").await.unwrap();
    write.exit_status(0).await.unwrap();
    write.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_target_says_is_recorded() {
    for (arguments, early) in
        [(&["web1", "true"][..], "too early\n"), (&["-s", "web1", "sftp"], ""), (&["web1", "scp -t /tmp"], "")]
    {
        let stand = stand(move |channel, _| talk(channel, early)).await;
        let output = stand.run("ssh", arguments).await;
        assert_eq!((text(&output.stdout), text(&output.stderr)), (early.into(), "early\nlate\n".into()));
        for (stream, wanted) in [("stdout", early), ("stderr", "early\nlate\n")] {
            stand.keeps(stream, wanted).await;
        }
    }
}

/// Fills all that lies between it and a client that reads nothing, then sends pieces of one byte on both streams in turns.
async fn crumble(channel: Channel<Msg>, handle: server::Handle, sent: mpsc::Sender<Option<bool>>) {
    let (mut read, write) = channel.split();
    while !matches!(read.wait().await, Some(ChannelMsg::Exec { .. }) | None) {}
    write.reply(true).await.unwrap();
    write.data_bytes(vec![b'o'; WHOLE]).await.unwrap();
    for _ in 0..CRUMBS {
        write.data_bytes(&b"o"[..]).await.unwrap();
        write.extended_data_bytes(1, &b"e"[..]).await.unwrap();
        write.extended_data_bytes(1, &b""[..]).await.unwrap();
    }
    // The answer to this shows that the gateway has got all that came before it.
    sent.send(open(&handle, Kind::TargetSession).await).await.unwrap();
    write.exit_status(0).await.unwrap();
    write.close().await.unwrap();
}

/// More than OpenSSH's client takes on a channel while nobody reads what it writes, in bytes.
const WHOLE: usize = 2_500_000;
/// Pieces on each stream.
const CRUMBS: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn output_in_tiny_pieces_is_held_whole_until_somebody_reads_it() {
    let (sent, mut all_sent) = mpsc::channel(1);
    let stand = stand(move |channel, handle| crumble(channel, handle, sent.clone())).await;
    let mut client = stand.client("ssh", &["web1", "true"]);
    let client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(all_sent.recv().await, Some(Some(false)), "nobody asked for a channel");
    let output = client.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!((output.stdout.len(), output.stderr.len()), (WHOLE + CRUMBS, CRUMBS));
}
