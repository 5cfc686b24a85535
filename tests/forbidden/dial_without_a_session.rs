//! The dialler is out of reach but through a session.
//! error: E0603

async fn straight_there() {
    let _ = sallyport::session::dial::dial("web1", "10.0.3.7:22").await;
}
