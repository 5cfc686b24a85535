//! A session's longest duration and idle time: the person is told before, and everybody when it cuts.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_told_before_it_cuts_and_when_it_does() {
    for (limit, before, after) in [
        (r#""maxDuration": "8s""#, "this session ends in 2s: a session may last 8s here", "a session may last 8s here"),
        (
            r#""idleTimeout": "8s""#,
            "this session ends in 2s unless something happens in it: it may be idle for 8s",
            "the session was idle for 8s",
        ),
    ] {
        let stand = Stand::new().await;
        stand.allow(&format!(r#"{{ "shell": {{}}, "exec": {{}}, "sftp": {{ "download": true }}, {limit} }}"#));
        let endless = || stand.run("ssh", &["-tt", "web1", "sleep 1000"]);
        let (terminal, command, sftp) = tokio::join!(
            endless(),
            stand.run("ssh", &["web1", "sleep 1000"]),
            stand.run("ssh", &["-s", "web1", "sftp"]),
        );
        let said = text(&[terminal.stdout, terminal.stderr].concat());
        let (first, last) = (said.find(before), said.rfind(after));
        assert!(first.zip(last).is_some_and(|(first, last)| first < last), "{limit}: {said}");
        let said = text(&command.stderr);
        assert!(!said.contains("ends in") && said.contains(after), "{limit}: {said}");
        // Standard input is at its end, so that this one ends by itself.
        assert!(!text(&sftp.stdout).contains("sallyport"), "{limit}");
        stand.recorded(r#""outcome":"expired""#).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_used_is_not_idle() {
    let stand = Stand::new().await;
    stand.allow(r#"{ "exec": {}, "idleTimeout": "6s" }"#);
    let output = stand.run("ssh", &["web1", "for i in 1 2 3 4 5 6 7 8; do sleep 1; echo $i; done"]).await;
    assert_eq!(text(&output.stdout).lines().last(), Some("8"), "{}", text(&output.stderr));
}
