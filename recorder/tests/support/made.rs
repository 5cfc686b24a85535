//! What the tests inside the crate and those outside record.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use sallyport_recorder::{Caller, Header, PolicyStamp, SessionId, Target};

/// Of a session of Alice's.
pub fn header() -> Header {
    let started = "2026-01-02T03:04:05.678Z".parse().unwrap();
    Header {
        id: SessionId::new(started),
        protocol: "ssh".into(),
        caller: Caller {
            user: Some("alice@example.com".into()),
            tags: vec![],
            device: "alice-laptop".into(),
            key: "kkEFqJzMbGlJ8iBCQjPzYGBw1sFC5HLmHvhXsQfGHDM=".into(),
            address: "100.64.0.7".into(),
        },
        target: Target { name: "web1".into(), address: "10.0.3.7:22".into() },
        policy: PolicyStamp { revision: "0123456789ab".into(), rules: vec!["ssh[0] 12:5".into()] },
        gateway: "gateway".into(),
        started,
    }
}
