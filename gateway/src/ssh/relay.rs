//! One channel, two directions.
//!
//! Each direction is one ordered pump: what comes in on one leg is judged, recorded and sent on the other before the next
//! message is taken, so the order of data, exit status, EOF and close is the sender's. A pump that waits, for the peer's
//! window or for the recorder, opens no new window behind it: a slow reader slows down its own writer, and nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use russh::{ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf, client, server};
use sallyport_recorder::{Event, TerminalHeader};
use tokio::sync::{OnceCell, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answers::Answers;
use super::authorize::{self, ChannelPermit, Forward, Request};
use super::greet::Opening;
use super::observe;
use super::reach::Target;
use super::record::Reel;
use crate::access::SshPermit;
use crate::failure::Failure;
use crate::session::Session;

type ToClient = ChannelWriteHalf<server::Msg>;
type ToTarget = ChannelWriteHalf<client::Msg>;

/// Carries the channels of one connection.
#[derive(Clone)]
pub(super) struct Relays(Arc<Shared>);

struct Shared {
    session: Arc<Session>,
    permit: SshPermit,
    target: Target,
    farewell: Farewell,
    channels: AtomicU32,
    terminals: AtomicU32,
    failure: Mutex<Option<Failure>>,
    failed: CancellationToken,
}

/// The gateway's last words to every channel.
#[derive(Debug, Clone)]
pub(super) struct Farewell(watch::Sender<Option<String>>);

impl Default for Farewell {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Farewell {
    /// Ends every channel with `sentence`.
    pub(super) fn say(&self, sentence: &str) {
        self.0.send_replace(Some(sentence.to_owned()));
    }

    async fn said(&self) -> String {
        let mut words = self.0.subscribe();
        let said = words.wait_for(Option::is_some).await;
        said.ok().and_then(|sentence| sentence.clone()).unwrap_or_default()
    }
}

impl Relays {
    pub(super) fn new(session: Arc<Session>, permit: SshPermit, target: Target, farewell: Farewell) -> Self {
        Self(Arc::new(Shared {
            session,
            permit,
            target,
            farewell,
            channels: AtomicU32::new(0),
            terminals: AtomicU32::new(0),
            failure: Mutex::new(None),
            failed: CancellationToken::new(),
        }))
    }

    /// Resolves with the first failure that the whole session has to end for.
    pub(super) async fn failed(&self) -> Failure {
        tokio::select! {
            () = self.0.failed.cancelled() => {}
            () = self.0.target.gone() => {}
        }
        self.0.failure.lock().take().unwrap_or_else(|| self.0.target.broke_off())
    }

    /// Says goodbye to the target.
    pub(super) async fn leave(&self) {
        self.0.target.leave().await;
    }

    /// Opens the target's end of a channel, then the client's, and carries both directions until both are closed.
    pub(super) fn carry(&self, opening: Opening) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(&self.0);
        async move {
            if let Err(failure) = shared.carry(opening).await {
                shared.failure.lock().get_or_insert(failure);
                shared.failed.cancel();
            }
        }
    }
}

impl Shared {
    async fn carry(&self, opening: Opening) -> Result<(), Failure> {
        let Opening { channel: near, reply, place: _place } = opening;
        // The client's channel is confirmed only now, so nothing of its can arrive before there is a place for it.
        let far = match self.target.open().await {
            Ok(far) => far,
            Err(russh::Error::ChannelOpenFailure(refusal)) => {
                let why = format!("{}: {}", self.session.target().name, refusal.description());
                let event = Event::Refused { channel: None, what: "session channel".to_owned(), why: why.clone() };
                self.session.record(event).await?;
                reply.reject(ChannelOpenFailure::Other { code: refusal.code(), reason: why }).await;
                return Ok(());
            }
            Err(_) => return Err(self.target.broke_off()),
        };
        let number = self.channels.fetch_add(1, Ordering::Relaxed);
        if number >= MAX_IN_ALL {
            let why = format!("one connection may open {MAX_IN_ALL} channels: connect again");
            reply.reject(ChannelOpenFailure::Other { code: RESOURCE_SHORTAGE, reason: why }).await;
            return Ok(());
        }
        self.session.record(Event::ChannelOpen { channel: number, kind: "session".to_owned() }).await?;
        reply.accept().await;
        let (mut from_client, to_client) = near.split();
        let (mut from_target, to_target) = far.split();
        let passage = Passage {
            shared: self,
            number,
            terminal: OnceCell::new(),
            reel: OnceCell::new(),
            answers: Answers::default(),
            deaf: CancellationToken::new(),
            to_client,
            to_target,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        };
        let result = passage.run(&mut from_client, &mut from_target).await;
        let (sent, received) = (passage.sent.into_inner(), passage.received.into_inner());
        self.session.record(Event::ChannelClose { channel: number, sent, received }).await?;
        result
    }
}

/// One channel on both legs.
struct Passage<'a> {
    shared: &'a Shared,
    number: u32,
    /// The terminal that was asked for, and the number of its recording.
    terminal: OnceCell<(u32, TerminalHeader)>,
    reel: OnceCell<Reel>,
    answers: Answers,
    deaf: CancellationToken,
    to_client: ToClient,
    to_target: ToTarget,
    sent: AtomicU64,
    received: AtomicU64,
}

/// Whether a pump goes on.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Closed,
}

impl Passage<'_> {
    async fn run(&self, from_client: &mut ChannelReadHalf, from_target: &mut ChannelReadHalf) -> Result<(), Failure> {
        let both = async {
            let upward = self.upward(from_client);
            let downward = self.downward(from_target);
            tokio::pin!(upward, downward);
            tokio::select! {
                // A target that closed its end takes nothing any more.
                result = &mut downward => result,
                // A client that closed its end still wants to know how the program ended (RFC 4254, section 5.3).
                result = &mut upward => {
                    result?;
                    self.deaf.cancel();
                    let _ = self.to_target.close().await;
                    downward.await
                }
            }
        };
        let result = tokio::select! {
            result = both => result,
            sentence = self.shared.farewell.said() => {
                self.say(&sentence).await;
                Ok(())
            }
        };
        if let Err(failure) = &result {
            self.say(&failure.told(self.shared.session.id())).await;
        }
        let _ = self.to_client.close().await;
        let _ = self.to_target.close().await;
        result
    }

    /// From the client to the target.
    async fn upward(&self, from_client: &mut ChannelReadHalf) -> Result<(), Failure> {
        let mut credit = 0;
        let mut variables = 0;
        while let Some(message) = from_client.wait().await {
            let size = match &message {
                ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => data.len(),
                _ => 0,
            };
            if self.pass_up(message, &mut variables).await? == Flow::Closed {
                break;
            }
            if let Some(size) = spend(&mut credit, size) {
                let _ = self.to_client.consumed(size).await;
            }
        }
        Ok(())
    }

    async fn pass_up(&self, message: ChannelMsg, variables: &mut usize) -> Result<Flow, Failure> {
        match message {
            ChannelMsg::Data { data } => {
                self.sent.fetch_add(data.len() as u64, Ordering::Relaxed);
                self.shared.session.touch();
                self.sent_on(self.to_target.data_bytes(data).await)
            }
            ChannelMsg::Eof => self.sent_on(self.to_target.eof().await),
            ChannelMsg::Close => Ok(Flow::Closed),
            // No client has a second stream to send (RFC 4254, section 5.2), and a target would not know it.
            ChannelMsg::ExtendedData { .. } => Ok(Flow::On),
            message => self.request(message, variables).await,
        }
    }

    /// Judges a request and passes it on, or refuses it.
    async fn request(&self, message: ChannelMsg, variables: &mut usize) -> Result<Flow, Failure> {
        let Some((request, want_reply)) = request_of(&message, *variables) else { return Ok(Flow::On) };
        let judged = match request {
            // RFC 4254, section 6.5: one program a channel.
            Request::Shell | Request::Exec(_) | Request::Subsystem(_) if self.reel.initialized() => {
                Err("a channel runs one program only".to_owned())
            }
            request => authorize::authorize(&self.shared.permit, request),
        };
        if let Request::Environment { .. } = request {
            *variables += 1;
        }
        match judged {
            Ok(permit) => self.pass_on(permit, message, want_reply).await,
            Err(why) => self.refuse(&message, why, want_reply).await,
        }
    }

    async fn refuse(&self, message: &ChannelMsg, why: String, want_reply: bool) -> Result<Flow, Failure> {
        self.shared.session.record(observe::refused(self.number, message, why.clone())).await?;
        // Variables are refused in silence, as sshd does; what the person asked for by hand is not.
        if !matches!(message, ChannelMsg::SetEnv { .. } | ChannelMsg::Unknown { .. }) {
            self.tell(&why).await;
        }
        match want_reply {
            true => self.sent_on(self.answers.refused(&self.to_client).await),
            false => Ok(Flow::On),
        }
    }

    /// Records an allowed request, prepares for what it brings, and sends it to the target.
    async fn pass_on(&self, _permit: ChannelPermit, message: ChannelMsg, want_reply: bool) -> Result<Flow, Failure> {
        let session = &self.shared.session;
        if let ChannelMsg::RequestPty { term, col_width, row_height, .. } = &message {
            let header = TerminalHeader {
                width: observe::cells(*col_width),
                height: observe::cells(*row_height),
                term: term.clone(),
                command: None,
                requested: self.shared.permit.account().to_owned(),
                account: self.shared.permit.account().to_owned(),
            };
            // Numbered here, so that the event and the file agree whoever starts a program first.
            if !self.terminal.initialized() {
                let number = self.shared.terminals.fetch_add(1, Ordering::Relaxed);
                let _ = self.terminal.set((number, header));
            }
        }
        let terminal = match &message {
            ChannelMsg::RequestPty { .. } => self.terminal.get().map_or(0, |(number, _)| *number),
            _ => 0,
        };
        if let Some(event) = observe::asked(self.number, terminal, &message) {
            session.record(event).await?;
        }
        self.thread(&message).await?;
        if want_reply {
            self.answers.passed_on().await;
        }
        self.sent_on(send(&self.to_target, message, want_reply).await)
    }

    /// Puts in the reel for the program that `message` starts, or winds it for a new window size.
    async fn thread(&self, message: &ChannelMsg) -> Result<(), Failure> {
        let session = &self.shared.session;
        let command = match message {
            ChannelMsg::RequestShell { .. } => None,
            ChannelMsg::Exec { command, .. } => Some(command.as_slice()),
            ChannelMsg::RequestSubsystem { name, .. } => {
                let reel = if name == authorize::SFTP {
                    session.record(Event::SftpOpened { channel: self.number }).await?;
                    Reel::Nothing
                } else {
                    Reel::command(session, self.number).await?
                };
                let _ = self.reel.set(reel);
                return Ok(());
            }
            ChannelMsg::WindowChange { col_width, row_height, .. } => {
                return match self.reel.get() {
                    Some(reel) => reel.resize(session, observe::cells(*col_width), observe::cells(*row_height)).await,
                    None => Ok(()),
                };
            }
            _ => return Ok(()),
        };
        let reel = match (self.terminal.get(), command) {
            (Some((number, header)), command) => {
                let header = TerminalHeader { command: command.map(observe::text), ..header.clone() };
                Reel::terminal(session, *number, header).await?
            }
            (None, _) => Reel::command(session, self.number).await?,
        };
        let _ = self.reel.set(reel);
        Ok(())
    }

    /// From the target to the client.
    async fn downward(&self, from_target: &mut ChannelReadHalf) -> Result<(), Failure> {
        let mut credit = 0;
        loop {
            let Some(message) = from_target.wait().await else { return Err(self.shared.target.broke_off()) };
            self.watch(&message).await?;
            // A client that takes nothing any more is no reason to stop recording what the target says.
            let _ = match message {
                ChannelMsg::Data { data } => {
                    let size = data.len();
                    let sent = self.unless_deaf(self.to_client.data_bytes(data)).await;
                    self.give_back(&mut credit, size).await;
                    sent
                }
                ChannelMsg::ExtendedData { data, ext } => {
                    let size = data.len();
                    let sent = self.unless_deaf(self.to_client.extended_data_bytes(ext, data)).await;
                    self.give_back(&mut credit, size).await;
                    sent
                }
                ChannelMsg::Success => self.answers.answered(&self.to_client, true).await,
                ChannelMsg::Failure => self.answers.answered(&self.to_client, false).await,
                ChannelMsg::ExitStatus { exit_status } => self.to_client.exit_status(exit_status).await,
                ChannelMsg::ExitSignal { signal_name, core_dumped, error_message, lang_tag } => {
                    self.to_client.exit_signal(signal_name, core_dumped, error_message, lang_tag).await
                }
                ChannelMsg::Eof => self.to_client.eof().await,
                ChannelMsg::Close => return Ok(()),
                _ => Ok(()),
            };
        }
    }

    /// Records what the target sent, before anybody sees it.
    async fn watch(&self, message: &ChannelMsg) -> Result<(), Failure> {
        let session = &self.shared.session;
        if let Some(event) = observe::ended(self.number, message) {
            session.record(event).await?;
        }
        let (data, stderr) = match message {
            ChannelMsg::Data { data } => (data, false),
            ChannelMsg::ExtendedData { data, .. } => (data, true),
            _ => return Ok(()),
        };
        self.received.fetch_add(data.len() as u64, Ordering::Relaxed);
        session.touch();
        match self.reel.get() {
            Some(reel) if stderr => reel.stderr(session, data).await,
            Some(reel) => reel.stdout(session, data).await,
            None => Ok(()),
        }
    }

    /// Sends data to a client for as long as it takes any: one that closed its end opens no window again.
    async fn unless_deaf(&self, sending: impl Future<Output = Result<(), russh::Error>>) -> Result<(), russh::Error> {
        tokio::select! {
            sent = sending => sent,
            () = self.deaf.cancelled() => Ok(()),
        }
    }

    async fn give_back(&self, credit: &mut usize, size: usize) {
        if let Some(size) = spend(credit, size) {
            let _ = self.to_target.consumed(size).await;
        }
    }

    /// Tells the person at the client something, beside the output of the program.
    async fn tell(&self, sentence: &str) {
        let line = Bytes::from(format!("sallyport: {sentence}\r\n"));
        let _ = timeout(LAST_WORDS, self.to_client.extended_data_bytes(STDERR, line)).await;
    }

    /// The last words on this channel.
    async fn say(&self, sentence: &str) {
        let line = Bytes::from(format!("\r\nsallyport: {sentence}\r\n"));
        let _ = timeout(LAST_WORDS, self.to_client.extended_data_bytes(STDERR, line)).await;
        let _ = self.to_client.eof().await;
    }

    /// A leg that takes nothing any more is over; why, its own end tells.
    fn sent_on(&self, sent: Result<(), russh::Error>) -> Result<Flow, Failure> {
        match sent {
            Ok(()) => Ok(Flow::On),
            Err(_) => Ok(Flow::Closed),
        }
    }
}

/// Counts consumed bytes, and says when it is time to open the window again.
fn spend(credit: &mut usize, size: usize) -> Option<u32> {
    *credit += size;
    (*credit >= CREDIT).then(|| u32::try_from(std::mem::take(credit)).unwrap_or(u32::MAX))
}

/// What a message asks for, and whether it wants a reply.
fn request_of(message: &ChannelMsg, variables: usize) -> Option<(Request<'_>, bool)> {
    Some(match message {
        ChannelMsg::RequestPty { want_reply, .. } => (Request::Pty, *want_reply),
        ChannelMsg::RequestShell { want_reply } => (Request::Shell, *want_reply),
        ChannelMsg::Exec { want_reply, command } => (Request::Exec(command), *want_reply),
        ChannelMsg::RequestSubsystem { want_reply, name } => (Request::Subsystem(name), *want_reply),
        ChannelMsg::SetEnv { want_reply, variable_name, variable_value } => {
            let size = variable_name.len() + variable_value.len();
            (Request::Environment { name: variable_name, size, before: variables }, *want_reply)
        }
        ChannelMsg::Signal { .. } => (Request::Signal, false),
        ChannelMsg::WindowChange { .. } => (Request::Window, false),
        ChannelMsg::AgentForward { want_reply } => (Request::Forward(Forward::Agent), *want_reply),
        ChannelMsg::RequestX11 { want_reply, .. } => (Request::Forward(Forward::X11), *want_reply),
        ChannelMsg::Unknown { want_reply, name } => (Request::Unknown(name), *want_reply),
        _ => return None,
    })
}

/// Sends a request as the client sent it.
async fn send(to: &ToTarget, message: ChannelMsg, want_reply: bool) -> Result<(), russh::Error> {
    match message {
        ChannelMsg::RequestPty { term, col_width, row_height, pix_width, pix_height, terminal_modes, .. } => {
            to.request_pty(want_reply, &term, col_width, row_height, pix_width, pix_height, &terminal_modes).await
        }
        ChannelMsg::RequestShell { .. } => to.request_shell(want_reply).await,
        ChannelMsg::Exec { command, .. } => to.exec(want_reply, command).await,
        ChannelMsg::RequestSubsystem { name, .. } => to.request_subsystem(want_reply, name).await,
        ChannelMsg::SetEnv { variable_name, variable_value, .. } => {
            to.set_env(want_reply, variable_name, variable_value).await
        }
        ChannelMsg::Signal { signal } => to.signal(signal).await,
        ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height } => {
            to.window_change(col_width, row_height, pix_width, pix_height).await
        }
        _ => Ok(()),
    }
}

/// What a peer may send ahead on one channel, in bytes; OpenSSH's own size, and 16 MB was slower.
pub(super) const WINDOW: u32 = 2 * 1024 * 1024;
/// The window is opened again in steps of this many bytes: small beside the window, large beside a packet.
const CREDIT: usize = 128 * 1024;
/// Messages that wait for a connection's loop; data among them is within its channel's window.
pub(super) const QUEUE: usize = 64;
/// A peer that is silent for so long is asked whether it is there.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(30);
/// Questions that may go without an answer.
pub(super) const KEEPALIVES: usize = 10;
/// A peer that answers nothing, and takes nothing, for so long is gone.
pub(super) const SILENCE: Duration = Duration::from_secs(5 * 60);
/// How long the channels may take to end after the client has gone, or was told to.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// How long a client may take to take our last words.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Channels in the life of one connection: a recording has files for each, and has to stay readable.
const MAX_IN_ALL: u32 = 20_000;
/// SSH_OPEN_RESOURCE_SHORTAGE (RFC 4254, section 5.1).
const RESOURCE_SHORTAGE: u32 = 4;
/// SSH_EXTENDED_DATA_STDERR (RFC 4254, section 5.2).
const STDERR: u32 = 1;
