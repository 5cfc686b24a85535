//! Bulk over a path where a round trip takes its time: windows have to become as wide as it is long.

use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::*;

/// How long each byte is under way, in one direction.
const DELAY: Duration = Duration::from_millis(25);
/// What goes over the path: by the window that a channel begins with it were 1,000 round trips, at least 50 seconds.
const BULK: usize = 32 << 20;
/// How long it may take; it is under two seconds where nothing else runs.
const SOON: Duration = Duration::from_secs(20);

/// Takes what connects to `listener` to `port`, and has every byte arrive as much later as it would from far away.
async fn relay(listener: TcpListener, port: u16) {
    while let Ok((client, _)) = listener.accept().await {
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = super::channels::connect(port).await.into_split();
        tokio::spawn(delayed(from_client, to_server));
        tokio::spawn(delayed(from_server, to_client));
    }
}

/// A listener on a port of its own.
async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn delayed(mut from: impl AsyncRead + Unpin + Send + 'static, mut to: impl AsyncWrite + Unpin) {
    let (sent, mut under_way) = mpsc::channel(1_024);
    tokio::spawn(async move {
        let mut piece = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut piece).await {
            let arrives = tokio::time::Instant::now() + DELAY;
            if sent.send((arrives, piece[..read].to_vec())).await.is_err() {
                return;
            }
        }
    });
    while let Some((arrives, piece)) = under_way.recv().await {
        sleep_until(arrives).await;
        if to.write_all(&piece).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_from_far_away_is_not_held_up_by_its_window() {
    let stand = Stand::new().await;
    let (listener, far) = listener().await;
    tokio::spawn(relay(listener, stand.port));
    let began = Instant::now();
    let counted = stand.feed(&["-p", &far.to_string(), "web1", "wc -c"], noise(BULK)).await;
    assert_eq!(text(&counted.stdout).trim(), BULK.to_string(), "{}", text(&counted.stderr));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_from_a_target_far_away_is_not_held_up_by_its_window() {
    let (listener, far) = listener().await;
    let stand = Stand::build(POLICY, None, Some(far)).await;
    let config = std::fs::read_to_string(stand.path("sshd_config")).unwrap();
    let port = config.lines().find_map(|line| line.strip_prefix("ListenAddress 127.0.0.1:")).unwrap();
    tokio::spawn(relay(listener, port.parse().unwrap()));
    let began = Instant::now();
    let output = stand.run("ssh", &["web1", &format!("head -c {BULK} /dev/zero")]).await;
    assert_eq!(output.stdout.len(), BULK, "{}", text(&output.stderr));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}
