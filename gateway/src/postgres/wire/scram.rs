//! What a server says in SCRAM (RFC 5802, section 7), as PostgreSQL says it: no extensions, which libpq takes none of either.

use std::num::NonZeroU32;

use data_encoding::BASE64;

/// Its answer to the client's first message.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerFirst<'a> {
    /// The client's nonce, and its own behind it.
    pub nonce: &'a str,
    /// What the password is hashed with.
    pub salt: Vec<u8>,
    /// How often.
    pub iterations: NonZeroU32,
}

/// Its last message: the proof that it knows the password, too. PostgreSQL refuses with an error of its own, not with `e=`.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerFinal(pub Vec<u8>);

impl<'a> ServerFirst<'a> {
    /// Reads it; `None` when it is something else.
    pub fn read(message: &'a [u8]) -> Option<Self> {
        let (nonce, rest) = std::str::from_utf8(message).ok()?.strip_prefix("r=")?.split_once(",s=")?;
        let (salt, iterations) = rest.split_once(",i=")?;
        // RFC 5802: printable ASCII but for the comma.
        let printable = nonce.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        let digits = iterations.bytes().all(|byte| byte.is_ascii_digit());
        let salt = BASE64.decode(salt.as_bytes()).ok()?;
        (printable && digits).then_some(Self { nonce, salt, iterations: iterations.parse().ok()? })
    }
}

impl ServerFinal {
    /// Reads it; `None` when it is something else.
    pub fn read(message: &[u8]) -> Option<Self> {
        BASE64.decode(message.strip_prefix(b"v=")?).ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_servers_say_and_nothing_that_only_looks_like_it() {
        let first = ServerFirst::read(b"r=abcXYZ,s=c2FsdA==,i=4096").unwrap();
        assert_eq!((first.nonce, first.salt.as_slice(), first.iterations.get()), ("abcXYZ", &b"salt"[..], 4096));
        for wrong in [
            "",
            "r=abc",
            "r=abc,s=c2FsdA==",
            "r=abc,s=c2FsdA==,i=",
            "r=abc,s=c2FsdA==,i=0",
            "r=abc,s=c2FsdA==,i=+1",
            "r=abc,s=c2FsdA==,i=4294967296",
            "r=abc,s=c2FsdA==,i=1,x=y",
            "r=abc,s=c2FsdA,i=1",
            "r=a bc,s=c2FsdA==,i=1",
            "m=ext,r=abc,s=c2FsdA==,i=1",
        ] {
            assert_eq!(ServerFirst::read(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(ServerFinal::read(b"v=c2FsdA=="), Some(ServerFinal(b"salt".to_vec())));
        for wrong in ["", "e=other-error", "v", "v=c2FsdA", "v=c2FsdA==,x", "w=c2FsdA==", "\u{e9}=x"] {
            assert_eq!(ServerFinal::read(wrong.as_bytes()), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn whatever_it_says_is_read_without_surprise(
            nonce in "[!-+.-~]{0,40}", salt in prop::collection::vec(any::<u8>(), 0..40), iterations in 1..=u32::MAX,
            noise in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let said = format!("r={nonce},s={},i={iterations}", BASE64.encode(&salt));
            let iterations = NonZeroU32::new(iterations).unwrap();
            prop_assert_eq!(ServerFirst::read(said.as_bytes()), Some(ServerFirst { nonce: &nonce, salt, iterations }));
            let _ = (ServerFirst::read(&noise), ServerFinal::read(&noise));
        }
    }
}
