//! The control socket of a running gateway: `admin.sock` in the state folder, HTTP over a Unix socket.
//!
//! The command line changes the state by itself and then asks the gateway to look again; the answer comes when the change
//! is in force and the sessions that it no longer allows have ended. Whoever can open the socket owns the state folder
//! anyway, so that file permissions are the whole authentication.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::state::Folder;

/// What the command line asks of the gateway. Each is answered once.
#[derive(Debug)]
pub enum Request {
    /// The state, the policy or the configuration changed: look again.
    Changed(oneshot::Sender<Applied>),
    /// How are you?
    Status(oneshot::Sender<Status>),
    /// End this session, for this reason.
    Kill(String, Kill, oneshot::Sender<Killed>),
    /// Let an operator look at this session for some seconds.
    Watch(String, oneshot::Sender<Watched>),
}

/// What came of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The revision of the policy that is in force.
    pub policy: String,
    /// What could not be applied, and what stays in its place instead.
    pub problems: Vec<String>,
    /// How many sessions the change ended.
    pub ended_sessions: usize,
}

/// A running gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// When it started.
    pub started: Timestamp,
    /// How packets come and go.
    pub backend: String,
    /// Where WireGuard listens.
    pub listen: String,
    /// The revision of the policy that is in force.
    pub policy: String,
    /// Enrolled devices.
    pub devices: usize,
    /// Registered targets.
    pub targets: usize,
    /// Sessions that are going on.
    pub sessions: usize,
}

/// How a session is to be ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// What its caller is told, and the recording keeps.
    pub reason: Option<String>,
}

/// What came of ending a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// Whether it was there.
    pub found: bool,
    /// Whether it is over by now.
    pub ended: bool,
}

/// Whether a session can be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Whether it is going on.
    pub live: bool,
    /// Why not all of it can be seen, if that is so.
    pub unseen: Option<String>,
}

/// Why the gateway could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("the gateway is running, but does not answer on {socket}: {reason}")]
pub struct AdminError {
    socket: String,
    reason: String,
}

/// Binds the control socket. Only the holder of the folder's lock may: what lies there is a dead gateway's.
///
/// # Errors
/// When the socket cannot be made.
pub fn bind(folder: &Folder) -> io::Result<UnixListener> {
    let socket = folder.socket();
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&socket)?;
    // The folder is closed to others already; this holds when somebody opens it by hand.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Hands what is asked on the socket to `requests`, until the socket fails. A full queue makes the askers wait.
///
/// # Errors
/// When the socket fails.
pub async fn serve(listener: UnixListener, requests: mpsc::Sender<Request>) -> io::Result<()> {
    let routes = Router::new()
        .route("/v1/changed", post(changed))
        .route("/v1/status", get(status))
        .route("/v1/sessions/{id}/kill", post(kill))
        .route("/v1/sessions/{id}/watch", post(watch))
        .with_state(requests);
    axum::serve(listener, routes).await
}

async fn changed(Shared(requests): Shared<mpsc::Sender<Request>>) -> Result<Json<Applied>, StatusCode> {
    ask(&requests, Request::Changed).await
}

async fn status(Shared(requests): Shared<mpsc::Sender<Request>>) -> Result<Json<Status>, StatusCode> {
    ask(&requests, Request::Status).await
}

async fn kill(
    Shared(requests): Shared<mpsc::Sender<Request>>,
    axum::extract::Path(id): axum::extract::Path<String>,
    Json(how): Json<Kill>,
) -> Result<Json<Killed>, StatusCode> {
    ask(&requests, |reply| Request::Kill(id, how, reply)).await
}

async fn watch(
    Shared(requests): Shared<mpsc::Sender<Request>>,
    axum::extract::Path(id): axum::extract::Path<String>,
) -> Result<Json<Watched>, StatusCode> {
    ask(&requests, |reply| Request::Watch(id, reply)).await
}

async fn ask<T>(
    requests: &mpsc::Sender<Request>,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Result<Json<T>, StatusCode> {
    let (reply, answer) = oneshot::channel();
    requests.send(request(reply)).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    answer.await.map(Json).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

/// Tells the gateway on `folder` that something changed, and waits until that is in force; `None` when none is running.
///
/// # Errors
/// When one is running and does not answer.
pub async fn tell_changed(folder: &Path) -> Result<Option<Applied>, AdminError> {
    call(folder, "POST", "/v1/changed", &()).await
}

/// Asks the gateway on `folder` how it is; `None` when none is running.
///
/// # Errors
/// When one is running and does not answer.
pub async fn ask_status(folder: &Path) -> Result<Option<Status>, AdminError> {
    call(folder, "GET", "/v1/status", &()).await
}

/// Has the gateway on `folder` end a session; `None` when none is running.
///
/// # Errors
/// When one is running and does not answer.
pub async fn tell_kill(folder: &Path, session: &str, how: &Kill) -> Result<Option<Killed>, AdminError> {
    call(folder, "POST", &format!("/v1/sessions/{session}/kill"), how).await
}

/// Has the gateway on `folder` let us look at a session for some seconds; `None` when none is running.
///
/// # Errors
/// When one is running and does not answer.
pub async fn ask_watch(folder: &Path, session: &str) -> Result<Option<Watched>, AdminError> {
    call(folder, "POST", &format!("/v1/sessions/{session}/watch"), &()).await
}

async fn call<T: DeserializeOwned>(
    folder: &Path,
    method: &str,
    path: &str,
    body: &impl Serialize,
) -> Result<Option<T>, AdminError> {
    let socket = folder.join("admin.sock");
    let failed = |reason: String| AdminError { socket: socket.display().to_string(), reason };
    let stream = match UnixStream::connect(&socket).await {
        Ok(stream) => stream,
        // No socket, or one that a dead gateway left behind.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    let body = serde_json::to_vec(body).map_err(|error| failed(error.to_string()))?;
    match timeout(PATIENCE, exchange(stream, method, path, body)).await {
        Ok(Ok(answer)) => serde_json::from_slice(&answer).map(Some).map_err(|e| failed(e.to_string())),
        Ok(Err(reason)) => Err(failed(reason)),
        Err(_) => Err(failed(format!("nothing came for {} seconds", PATIENCE.as_secs()))),
    }
}

async fn exchange(stream: UnixStream, method: &str, path: &str, body: Vec<u8>) -> Result<Bytes, String> {
    let told = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(told)?;
    let request = hyper::Request::builder().method(method).uri(path).header("host", "gateway");
    let request = request.header("content-type", "application/json");
    let request = request.body(Full::new(Bytes::from(body))).map_err(|e| e.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(told)?;
        if !response.status().is_success() {
            return Err(format!("it answered {}", response.status()));
        }
        let body = Limited::new(response.into_body(), LIMIT).collect().await.map_err(|e| e.to_string())?;
        Ok(body.to_bytes())
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => {
            ended.map_err(told)?;
            // The connection may end before its last bytes have been read.
            exchange.await
        }
    }
}

/// How long a change may take to be in force: sessions get a moment to say goodbye.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest answer, in bytes.
const LIMIT: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(&place.path().join("state")).unwrap();
        (place, folder)
    }

    #[tokio::test]
    async fn answers_when_the_change_is_in_force() {
        let (_place, folder) = folder();
        let listener = bind(&folder).unwrap();
        let (sender, mut requests) = mpsc::channel(1);
        let server = tokio::spawn(serve(listener, sender));
        let gateway = tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                match request {
                    Request::Changed(reply) => drop(reply.send(Applied { ended_sessions: 2, ..Applied::default() })),
                    Request::Kill(id, how, reply) => {
                        assert_eq!(how.reason.as_deref(), Some("why"));
                        drop(reply.send(Killed { found: id == "x", ended: true }));
                    }
                    Request::Watch(id, reply) => drop(reply.send(Watched { live: id == "x", unseen: None })),
                    Request::Status(_unanswered) => {}
                }
            }
        });
        assert_eq!(tell_changed(folder.path()).await.unwrap().unwrap().ended_sessions, 2);
        let why = Kill { reason: Some("why".into()) };
        assert!(tell_kill(folder.path(), "x", &why).await.unwrap().unwrap().found);
        assert!(ask_watch(folder.path(), "x").await.unwrap().unwrap().live);
        assert!(!ask_watch(folder.path(), "y").await.unwrap().unwrap().live);
        let error = ask_status(folder.path()).await.unwrap_err().to_string();
        assert!(error.contains("503"), "{error}");
        server.abort();
        gateway.abort();
    }

    #[tokio::test]
    async fn says_that_no_gateway_is_running() {
        let (_place, folder) = folder();
        assert_eq!(tell_changed(folder.path()).await.unwrap(), None);
        drop(bind(&folder).unwrap());
        assert_eq!(tell_changed(folder.path()).await.unwrap(), None, "a dead gateway's socket");
        let mode = std::fs::metadata(folder.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        bind(&folder).unwrap();
    }
}
