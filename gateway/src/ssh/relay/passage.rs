//! One channel, two directions.
//!
//! Each direction is one ordered pump: what comes in on one leg is judged, recorded and sent on the other before the next
//! message is taken, so the order of data, exit status, EOF and close is the sender's. A pump that waits, for the peer's
//! window or for the recorder, opens no new window behind it: a slow reader slows down its own writer, and nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig, client, server};
use sallyport_recorder::{Event, TerminalHeader};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::farewell::{Programs, Words};
use super::granted::{Granted, taken_away};
use super::program::{Onward, Program};
use super::{LAST_WORDS, Shared};
use crate::access::SshPermit;
use crate::failure::Failure;
use crate::ssh::answers::Answers;
use crate::ssh::files::Broken;
use crate::ssh::observe;
use crate::ssh::record::Track;
use crate::ssh::window::Window;

pub(super) type ToClient = ChannelWriteHalf<server::Msg>;
pub(super) type ToTarget = ChannelWriteHalf<client::Msg>;

/// One channel on both legs.
pub(super) struct Passage<'a> {
    pub(super) shared: &'a Shared,
    pub(super) number: u32,
    /// The terminal that was asked for, and the number of its recording.
    pub(super) terminal: OnceCell<(u32, TerminalHeader)>,
    /// What its program was granted. Judged and kept under its lock, so that no newer permit comes between.
    pub(super) granted: Mutex<Option<Granted>>,
    pub(super) program: OnceCell<Program>,
    /// The record of what comes without a terminal, from the first program or byte on.
    track: OnceCell<Arc<Track>>,
    pub(super) answers: Answers,
    deaf: CancellationToken,
    pub(super) to_client: ToClient,
    pub(super) to_target: ToTarget,
    pub(super) sent: AtomicU64,
    received: AtomicU64,
}

/// Whether a pump goes on.
#[derive(PartialEq, Eq)]
pub(super) enum Flow {
    On,
    Closed,
}

impl<'a> Passage<'a> {
    /// Carries the two ends of channel `number` until both are closed; with how it went, the bytes each way.
    pub(super) async fn carry(
        shared: &'a Shared,
        number: u32,
        near: Channel<server::Msg>,
        far: Channel<client::Msg>,
    ) -> (Result<(), Failure>, u64, u64) {
        let (from_client, to_client) = near.split();
        let (from_target, to_target) = far.split();
        let passage = Self {
            shared,
            number,
            terminal: OnceCell::new(),
            granted: Mutex::new(None),
            program: OnceCell::new(),
            track: OnceCell::new(),
            answers: Answers::default(),
            deaf: CancellationToken::new(),
            to_client,
            to_target,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        };
        let mut result = passage.run(from_client, from_target).await;
        if let Some(program) = passage.program.get() {
            result = result.and(program.finish(&shared.session).await);
        }
        (result, passage.sent.into_inner(), passage.received.into_inner())
    }

    async fn run(&self, from_client: ChannelReadHalf, from_target: ChannelReadHalf) -> Result<(), Failure> {
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
                    self.client_ended();
                    let _ = self.to_target.close().await;
                    downward.await
                }
            }
        };
        tokio::pin!(both);
        let mut notices = self.shared.session.notices();
        let permits = self.shared.session.ssh_permits();
        let result = loop {
            tokio::select! {
                result = &mut both => break result,
                Words { sentence, programs } = self.shared.farewell.said() => {
                    if programs == Programs::End {
                        self.hang_up().await;
                    }
                    self.say(&sentence).await;
                    break Ok(());
                }
                why = taken_away(&permits, |permit| self.judge_again(permit)) => break self.take_away(why).await,
                Ok(()) = notices.changed() => {
                    let sentence = notices.borrow_and_update().clone();
                    // A program's errors are read by other programs, a terminal by a person.
                    if self.terminal.initialized() {
                        self.interrupt(&sentence).await;
                    }
                }
            }
        };
        if let Err(failure) = &result {
            self.say(&failure.told(self.shared.session.id())).await;
        }
        let _ = self.to_client.close().await;
        let _ = self.to_target.close().await;
        result
    }

    fn judge_again(&self, permit: &SshPermit) -> Result<(), String> {
        self.granted.lock().as_ref().map_or(Ok(()), |granted| granted.judge(permit))
    }

    /// The newest permit does not give what runs here: it ends, and nothing beside it does.
    async fn take_away(&self, why: String) -> Result<(), Failure> {
        let granted = self.granted.lock().take();
        if let Some(granted) = granted {
            let sentence = self.shared.take_away(self.number, &granted, why).await?;
            self.hang_up().await;
            self.say(&sentence).await;
        }
        Ok(())
    }

    /// Ends the program at the target. sshd hangs up terminals when their channel closes, and nothing else: what runs
    /// without one would go on unseen until it next reads or writes. A terminal that was asked for tells nothing: it may
    /// have been refused, or asked for too late.
    async fn hang_up(&self) {
        if self.program.initialized() {
            for signal in [Sig::HUP, Sig::TERM] {
                let _ = timeout(LAST_WORDS, self.to_target.signal(signal)).await;
            }
        }
    }

    /// From the client to the target.
    async fn upward(&self, mut from_client: ChannelReadHalf) -> Result<(), Failure> {
        let mut window = Window::open(&self.to_client, self.shared.session.budget()).await;
        let mut variables = 0;
        while let Some(message) = from_client.wait().await {
            let size = match &message {
                ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => data.len(),
                _ => 0,
            };
            if self.pass_up(message, &mut variables).await? == Flow::Closed {
                break;
            }
            window.taken(size).await;
        }
        Ok(())
    }

    async fn pass_up(&self, message: ChannelMsg, variables: &mut usize) -> Result<Flow, Failure> {
        match message {
            ChannelMsg::Data { data } => {
                self.sent.fetch_add(data.len() as u64, Ordering::Relaxed);
                self.shared.session.touch();
                match self.program.get() {
                    Some(program) => self.input(program, data).await,
                    None => self.sent_on(self.to_target.data_bytes(data).await),
                }
            }
            ChannelMsg::Eof => {
                self.client_ended();
                self.sent_on(self.to_target.eof().await)
            }
            ChannelMsg::Close => Ok(Flow::Closed),
            // No client has a second stream to send (RFC 4254, section 5.2), and a target would not know it.
            ChannelMsg::ExtendedData { .. } => Ok(Flow::On),
            message => self.request(message, variables).await,
        }
    }

    /// Has a piece of input observed, and sends it on; waits where a part of it has to.
    async fn input(&self, program: &Program, mut data: Bytes) -> Result<Flow, Failure> {
        loop {
            let onward = program.stdin(&self.shared.session, &mut data).await?;
            for piece in onward.pieces {
                if self.sent_on(self.to_target.data_bytes(piece).await)? == Flow::Closed {
                    return Ok(Flow::Closed);
                }
            }
            if let Some(sentence) = onward.told {
                self.tell(&sentence).await;
            }
            if let Some(broken) = onward.broken {
                return self.break_off(&broken).await;
            }
            if data.is_empty() {
                return Ok(Flow::On);
            }
            program.upward().await;
        }
    }

    /// The program's protocol was broken: its channel ends, and nothing else does.
    async fn break_off(&self, broken: &Broken) -> Result<Flow, Failure> {
        let why = broken.to_string();
        let event = Event::Refused { channel: Some(self.number), what: "file transfer".to_owned(), why: why.clone() };
        self.shared.session.record(event).await?;
        self.say(&why).await;
        Ok(Flow::Closed)
    }

    fn client_ended(&self) {
        if let Some(program) = self.program.get() {
            program.client_ended();
        }
    }

    /// From the target to the client.
    async fn downward(&self, mut from_target: ChannelReadHalf) -> Result<(), Failure> {
        let mut window = Window::open(&self.to_target, self.shared.session.budget()).await;
        loop {
            let message = tokio::select! {
                message = from_target.wait() => message,
                () = self.beside() => Some(ChannelMsg::Data { data: Bytes::new() }),
            };
            let Some(message) = message else { return Err(self.shared.target.broke_off()) };
            if let Some(event) = observe::ended(self.number, &message) {
                self.shared.session.record(event).await?;
            }
            // A client that is gone is no reason to stop.
            let _ = match message {
                ChannelMsg::Data { data } => match self.output(data, None, &mut window).await? {
                    Flow::On => Ok(()),
                    Flow::Closed => return Ok(()),
                },
                ChannelMsg::ExtendedData { data, ext } => {
                    self.output(data, Some(ext), &mut window).await.map(|_| Ok(()))?
                }
                ChannelMsg::Success => self.answers.answered(&self.to_client, true).await,
                ChannelMsg::Failure => self.answers.answered(&self.to_client, false).await,
                ChannelMsg::ExitStatus { exit_status } => self.to_client.exit_status(exit_status).await,
                ChannelMsg::ExitSignal { signal_name, core_dumped, error_message, lang_tag } => {
                    self.to_client.exit_signal(signal_name, core_dumped, error_message, lang_tag).await
                }
                ChannelMsg::Eof => self.to_client.eof().await,
                ChannelMsg::Close => return Ok(()),
                message @ ChannelMsg::Unknown { .. } => {
                    let why = "the target asked for something that is not known to this gateway".to_owned();
                    self.shared.session.record(observe::refused(self.number, &message, why)).await?;
                    Ok(())
                }
                _ => Ok(()),
            };
        }
    }

    /// Resolves when a program has something to say to the client in its target's stead.
    async fn beside(&self) {
        match self.program.get() {
            Some(program) => program.downward().await,
            None => std::future::pending().await,
        }
    }

    /// Has a piece of output observed, and sends it on; waits where a part of it has to. `ext` is its stream, where that is
    /// not the first one.
    async fn output(
        &self,
        mut data: Bytes,
        ext: Option<u32>,
        window: &mut Window<'_, client::Msg>,
    ) -> Result<Flow, Failure> {
        let size = data.len();
        self.received.fetch_add(size as u64, Ordering::Relaxed);
        if size > 0 {
            self.shared.session.touch();
        }
        loop {
            let onward = self.observed(&mut data, ext).await?;
            for piece in onward.pieces {
                // A client that takes nothing any more is no reason to stop recording what the target says.
                let _ = match ext {
                    None => self.unless_deaf(self.to_client.data_bytes(piece)).await,
                    Some(ext) => self.unless_deaf(self.to_client.extended_data_bytes(ext, piece)).await,
                };
            }
            if let Some(broken) = onward.broken {
                return self.break_off(&broken).await;
            }
            if data.is_empty() {
                break;
            }
            self.beside().await;
        }
        if self.terminal.initialized() {
            window.keep_to_a_terminal();
        }
        window.taken(size).await;
        Ok(Flow::On)
    }

    /// Records what the target sent, before anybody sees it; gives what goes on.
    async fn observed(&self, data: &mut Bytes, ext: Option<u32>) -> Result<Onward, Failure> {
        let session = &self.shared.session;
        let Some(program) = self.program.get() else {
            // No sshd speaks before a program runs. What a target says then is its channel's output all the same.
            let track = self.track().await?;
            match ext {
                None => track.stdout(session, data).await?,
                Some(_) => track.stderr(session, data).await?,
            }
            return Ok(Onward::of(std::mem::take(data)));
        };
        match ext {
            None => program.stdout(session, data).await,
            Some(_) => program.stderr(session, data).await,
        }
    }

    /// The record of what this channel carries without a terminal.
    pub(super) async fn track(&self) -> Result<Arc<Track>, Failure> {
        let made = || async { Track::command(&self.shared.session, self.number).await.map(Arc::new) };
        self.track.get_or_try_init(made).await.map(Arc::clone)
    }

    /// Sends data to a client for as long as it takes any: one that closed its end opens no window again.
    async fn unless_deaf(&self, sending: impl Future<Output = Result<(), russh::Error>>) -> Result<(), russh::Error> {
        tokio::select! {
            sent = sending => sent,
            () = self.deaf.cancelled() => Ok(()),
        }
    }

    /// Tells the person at the client something, beside the output of the program.
    pub(super) async fn tell(&self, sentence: &str) {
        self.write(format!("sallyport: {sentence}\r\n")).await;
    }

    /// The same on a line of its own, in the middle of whatever stands there.
    async fn interrupt(&self, sentence: &str) {
        self.write(format!("\r\nsallyport: {sentence}\r\n")).await;
    }

    /// The last words on this channel.
    async fn say(&self, sentence: &str) {
        self.interrupt(sentence).await;
        let _ = self.to_client.eof().await;
    }

    /// A client that does not take it in time misses it.
    async fn write(&self, line: String) {
        let _ = timeout(LAST_WORDS, self.to_client.extended_data_bytes(STDERR, Bytes::from(line))).await;
    }

    /// A leg that takes nothing any more is over; why, its own end tells.
    pub(super) fn sent_on(&self, sent: Result<(), russh::Error>) -> Result<Flow, Failure> {
        match sent {
            Ok(()) => Ok(Flow::On),
            Err(_) => Ok(Flow::Closed),
        }
    }
}

/// SSH_EXTENDED_DATA_STDERR (RFC 4254, section 5.2).
const STDERR: u32 = 1;
