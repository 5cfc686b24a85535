//! The requests of one channel: each is judged, recorded, and passed on or refused, in the order in which it came.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use russh::ChannelMsg;
use sallyport_recorder::{Event, TerminalHeader};

use super::granted::Granted;
use super::passage::{Flow, Passage, ToTarget};
use super::program::Program;
use crate::failure::Failure;
use crate::ssh::authorize::{self, ChannelPermit, Kind, Request};
use crate::ssh::files::{ScpCommand, Transfer};
use crate::ssh::observe;
use crate::ssh::record::Track;

impl Passage<'_> {
    /// Judges a request and passes it on, or refuses it.
    pub(super) async fn request(&self, message: ChannelMsg, variables: &mut usize) -> Result<Flow, Failure> {
        let Some((request, want_reply)) = request_of(&message, *variables) else { return Ok(Flow::On) };
        let scp = self.scp(&message);
        let request = scp.as_ref().map_or(request, Request::Scp);
        let judged = match request {
            // RFC 4254, section 6.5: one program a channel.
            Request::Shell | Request::Exec(_) | Request::Scp(_) | Request::Subsystem(_)
                if self.program.initialized() =>
            {
                Err("a channel runs one program only".to_owned())
            }
            // It would be the program's input, and nobody would have looked at it.
            Request::Scp(_) | Request::Subsystem(authorize::SFTP) if self.sent.load(Ordering::Relaxed) > 0 => {
                Err("a file transfer begins with its request, and data was sent before it".to_owned())
            }
            request => self.authorize(request),
        };
        if let Request::Environment { .. } = request {
            *variables += 1;
        }
        match judged {
            Ok(permit) => self.pass_on(permit, message, want_reply).await,
            Err(why) => self.refuse(&message, why, want_reply).await,
        }
    }

    /// Judges a request, and keeps what it grants to the program, if it starts one.
    fn authorize(&self, request: Request<'_>) -> Result<ChannelPermit, String> {
        let mut granted = self.granted.lock();
        let permit = self.shared.permits.now()?;
        let passed = authorize::authorize(&permit, request)?;
        if let Some(program) = Granted::program(&permit, &request) {
            *granted = Some(program);
        }
        Ok(passed)
    }

    /// The call of scp's far end that a message is. In a terminal its bytes would be changed, so there it is a command like
    /// any other.
    fn scp(&self, message: &ChannelMsg) -> Option<ScpCommand> {
        match message {
            ChannelMsg::Exec { command, .. } if !self.terminal.initialized() => ScpCommand::read(command),
            _ => None,
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
        let terminal = match &message {
            ChannelMsg::RequestPty { term, col_width, row_height, .. } => {
                self.terminal_of(term, observe::cells(*col_width), observe::cells(*row_height))
            }
            _ => 0,
        };
        if let Some(event) = observe::asked(self.number, terminal, &message) {
            session.record(event).await?;
        }
        self.prepare(&message).await?;
        match &message {
            ChannelMsg::AgentForward { .. } => self.shared.asked.forward_agent(),
            ChannelMsg::RequestX11 { single_connection, .. } => self.shared.asked.forward_display(*single_connection),
            _ => {}
        }
        if want_reply {
            self.answers.passed_on().await;
        }
        self.sent_on(send(&self.to_target, message, want_reply).await)
    }

    /// The number of the channel's terminal, which is the one that was asked for first. Given here, so that the event and the
    /// file agree, whichever channel starts its program first.
    fn terminal_of(&self, term: &str, width: u16, height: u16) -> u32 {
        if let Some((number, _)) = self.terminal.get() {
            return *number;
        }
        let account = self.shared.permits.now().map(|permit| permit.account().to_owned()).unwrap_or_default();
        let header = TerminalHeader {
            width,
            height,
            term: observe::name(term),
            command: None,
            requested: account.clone(),
            account,
        };
        let number = self.shared.terminals.fetch_add(1, Ordering::Relaxed);
        let _ = self.terminal.set((number, header));
        number
    }

    /// Makes ready for the program that `message` starts, or for the new size of its window.
    async fn prepare(&self, message: &ChannelMsg) -> Result<(), Failure> {
        let program = match message {
            ChannelMsg::RequestShell { .. } => Program::new(self.screen(None).await?),
            ChannelMsg::Exec { command, .. } => match self.scp(message) {
                Some(scp) => Program::files(Transfer::scp(self.number, scp), self.track().await?),
                None => Program::new(self.screen(Some(command)).await?),
            },
            ChannelMsg::RequestSubsystem { name, .. } if name == authorize::SFTP => self.sftp().await?,
            ChannelMsg::RequestSubsystem { .. } => Program::new(self.track().await?),
            ChannelMsg::WindowChange { col_width, row_height, .. } => {
                let Some(program) = self.program.get() else { return Ok(()) };
                let (width, height) = (observe::cells(*col_width), observe::cells(*row_height));
                return program.resize(&self.shared.session, width, height).await;
            }
            _ => return Ok(()),
        };
        let _ = self.program.set(program);
        Ok(())
    }

    /// The record of what a shell or `command` shows: its terminal's, where one was asked for.
    async fn screen(&self, command: Option<&[u8]>) -> Result<Arc<Track>, Failure> {
        let Some((number, header)) = self.terminal.get() else { return self.track().await };
        let header = TerminalHeader { command: command.map(observe::text), ..header.clone() };
        Ok(Arc::new(Track::terminal(&self.shared.session, *number, header).await?))
    }

    /// The program of a channel that was granted file transfer.
    async fn sftp(&self) -> Result<Program, Failure> {
        self.shared.session.record(Event::SftpOpened { channel: self.number }).await?;
        let granted = self.granted.lock().clone();
        let Some(Granted::Sftp(rule)) = granted else {
            return Err(Failure::Ours("a file transfer that nobody granted".into()));
        };
        Ok(Program::files(Transfer::sftp(self.number, rule), self.track().await?))
    }
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
        ChannelMsg::Break { want_reply, .. } => (Request::Break, *want_reply),
        ChannelMsg::WindowChange { .. } => (Request::Window, false),
        ChannelMsg::AgentForward { want_reply } => (Request::AgentForwarding, *want_reply),
        ChannelMsg::RequestX11 { want_reply, .. } => (Request::X11Forwarding, *want_reply),
        ChannelMsg::Unknown { want_reply, name } => (Request::Unknown(Kind::UnknownRequest, name), *want_reply),
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
        ChannelMsg::AgentForward { .. } => to.agent_forward(want_reply).await,
        ChannelMsg::RequestX11 {
            single_connection,
            x11_authentication_protocol: protocol,
            x11_authentication_cookie: cookie,
            x11_screen_number: screen,
            ..
        } => to.request_x11(want_reply, single_connection, protocol, cookie, screen).await,
        ChannelMsg::Signal { signal } => to.signal(signal).await,
        ChannelMsg::Break { length, .. } => to.send_break(want_reply, length).await,
        ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height } => {
            to.window_change(col_width, row_height, pix_width, pix_height).await
        }
        _ => Ok(()),
    }
}
