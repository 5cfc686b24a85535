//! How the gateway logs in to servers, and what it believes of them.

use super::Stand;
use super::stand::{POLICY, failed, ok};

const VERIFIED: &str = r#"tls = "verify-full", ca = "file:server_ca.pem", login = { password = "file:password" }"#;

#[tokio::test(flavor = "multi_thread")]
async fn logs_in_by_every_kind_of_password_inside_verified_tls() {
    let stand = Stand::with(POLICY, VERIFIED).await;
    for role in ["scrammed", "bound", "hashed", "open"] {
        let who = "SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        assert_eq!(ok(stand.psql(&stand.url(role, ""), &[who])).await, format!("{role}|t"));
    }
    stand.recorded("\"login\":\"password\"").await;
    stand.recorded("\"host_key\":\"SHA256:").await;
    assert!(!stand.timelines().await.contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_in_by_a_certificate_that_is_for_the_role_alone() {
    let how = r#"tls = "verify-full", ca = "file:server_ca.pem", login = "certificate""#;
    let stand = Stand::with(POLICY, how).await;
    assert_eq!(ok(stand.psql(&stand.url("certified", ""), &["SELECT current_user"])).await, "certified");
    stand.recorded("\"login\":\"certificate\"").await;
    let said = failed(stand.psql(&stand.url("scrammed", ""), &["SELECT 1"])).await;
    assert!(said.contains("orders could not be reached: login failed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gives_no_password_in_the_clear_and_none_to_a_server_that_proves_nothing() {
    let stand = Stand::with(POLICY, r#"tls = "disable", login = { password = "file:password" }"#).await;
    let said = failed(stand.psql(&stand.url("open", ""), &["SELECT 1"])).await;
    assert!(said.contains("inside verified TLS only"), "{said}");
    for role in ["scrammed", "hashed"] {
        assert_eq!(ok(stand.psql(&stand.url(role, ""), &["SELECT current_user"])).await, role);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_authority_is_refused() {
    for mode in ["verify-full", "verify-ca", "require"] {
        let named = format!(r#"tls = "{mode}", ca = "file:root.crt", login = {{ password = "file:password" }}"#);
        let stand = Stand::with(POLICY, &named).await;
        let said = failed(stand.psql(&stand.url("scrammed", ""), &["SELECT 1"])).await;
        assert!(said.contains("orders could not be reached: tls failed"), "{mode}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_names_the_target_and_the_stage_and_nothing_secret() {
    let stand = Stand::with(POLICY, VERIFIED).await;
    stand.cluster.sql("ALTER ROLE scrammed PASSWORD 'another'");
    let said = failed(stand.psql(&stand.url("scrammed", ""), &["SELECT 1"])).await;
    assert!(
        said.contains("orders could not be reached: login failed: FATAL: password authentication failed"),
        "{said}"
    );
    assert!(!said.contains("hunter2"));
}
