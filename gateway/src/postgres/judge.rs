//! Asks the policy about each statement before the server sees it, and answers for the server where the policy says no.
//!
//! A statement that is refused is not simply held back: the server gets one in its place that it cannot parse. So the answer
//! comes in its turn, however much is under way, a transaction is aborted, and what follows in the same pipeline is passed
//! over, all by the server itself. Only the words of the error are changed when it comes back.

use std::collections::VecDeque;

use sallyport_policies::PostgresCapability;
use sallyport_policies::sql::{self, Judgement, Reading, Refusal};

use super::wire::{ErrorResponse, Frame, Severity, SqlState, frontend, message, string};
use crate::access::PostgresPermit;
use crate::failure::Failure;

/// Judges what one session runs.
pub(super) struct Judge {
    capability: PostgresCapability,
    rules: Vec<String>,
    replicates: bool,
    reading: Reading,
    /// Errors that the server still owes, each with a number that was drawn for it: nobody can name one before it is there.
    owed: VecDeque<(u64, ErrorResponse)>,
}

/// A statement that is not for the server.
pub(super) struct Refused {
    /// What the server gets in its place.
    pub(super) substitute: Vec<u8>,
    /// Why.
    pub(super) refusal: Refusal,
    /// The text, as far as it was at hand.
    pub(super) text: Vec<u8>,
}

impl Judge {
    /// Of a session under `permit`; `replicates` where it is a replication connection.
    pub(super) fn new(permit: &PostgresPermit, replicates: bool) -> Self {
        Self {
            capability: permit.capability().clone(),
            rules: permit.rules().to_vec(),
            replicates,
            reading: Reading::default(),
            owed: VecDeque::new(),
        }
    }

    /// Whether anything is judged: not where everything is allowed.
    pub(super) fn judges(&self) -> bool {
        !self.capability.allows_everything()
    }

    /// Hears a ParameterStatus: some settings change how a text is read. A session that was once read otherwise stays one of
    /// which that is assumed, because what is under way may turn it back before this is heard.
    pub(super) fn reported(&mut self, payload: &[u8]) {
        let Some((name, rest)) = string(payload) else { return };
        let Some((value, _)) = string(rest) else { return };
        match name {
            b"standard_conforming_strings" => self.reading.standard_conforming_strings &= value == b"on",
            b"client_encoding" => {
                self.reading.plain_encoding &= Reading::is_plain_encoding(&String::from_utf8_lossy(value));
            }
            _ => {}
        }
    }

    /// Judges a frame of the client's, of which `payload` is at hand; `None` where it may pass.
    pub(super) fn refuses(&mut self, frame: Frame<'_>, payload: &[u8]) -> Option<Refused> {
        if has_endless_name(frame.tag, payload) {
            return Some(self.refuses_name());
        }
        if !self.judges() || wants(frame.tag).is_none() {
            return None;
        }
        let (text, name) = match frame.tag {
            frontend::PARSE => {
                let (name, rest) = string(payload)?;
                (string(rest).map_or(rest, |(text, _)| text), name)
            }
            _ => (string(payload).map_or(payload, |(text, _)| text), &[][..]),
        };
        // Bytes that are no text stand for themselves still, where the encoding is plain; elsewhere they are refused.
        let read = String::from_utf8_lossy(text);
        let judgement = match frame.tag {
            frontend::FUNCTION_CALL => {
                let oid = payload.first_chunk::<4>().map_or(0, |oid| u32::from_be_bytes(*oid));
                sql::judge_function_call(&self.capability, oid)
            }
            _ if self.replicates => sql::judge_replication(&self.capability, &read, self.reading),
            _ => sql::judge_as(&self.capability, &read, self.reading),
        };
        let Judgement::Refused(refusal) = judgement else { return None };
        let text = if frame.tag == frontend::FUNCTION_CALL { b"function call".to_vec() } else { text.to_vec() };
        let substitute = self.substitute(frame.tag, name, &refusal);
        Some(Refused { substitute, refusal, text })
    }

    /// What is named beyond all bounds could be neither judged nor recorded: its text begins where nobody looks.
    fn refuses_name(&mut self) -> Refused {
        let message = format!("the name of a prepared statement or portal is longer than {NAME_MAX} bytes");
        let refusal = Refusal::of_any_rule(&self.capability, message, "give it a shorter name");
        let substitute = self.substitute(frontend::PARSE, &[], &refusal);
        Refused { substitute, refusal, text: b"a message with an endless name".to_vec() }
    }

    /// Judges a setting that the client wants its session to begin with.
    ///
    /// # Errors
    /// [`Failure::Denied`] when it may not have it.
    pub(super) fn setting(&self, name: &str, value: &str) -> Result<(), Failure> {
        let quoted = |text: &str, quote: char| text.replace(quote, &format!("{quote}{quote}"));
        let statement = format!("SET \"{}\" = '{}'", quoted(name, '"'), quoted(value, '\''));
        match sql::judge(&self.capability, &statement) {
            Judgement::Allowed => Ok(()),
            Judgement::Refused(refusal) => {
                let detail = refusal.detail_of(&self.rules);
                Err(Failure::Denied(format!("a session that begins with {name} = {value:?} is not allowed: {detail}")))
            }
        }
    }

    /// The error in the place of one of the server's, if that is about something that was refused.
    pub(super) fn answer(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        if self.owed.is_empty() {
            return None;
        }
        let at = payload.windows(MARKER.len()).position(|window| window == MARKER.as_bytes())?;
        let digits = payload.get(at + MARKER.len()..)?.get(..16)?;
        let number = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        let place = self.owed.iter().position(|(owed, _)| *owed == number)?;
        // The server passes over what comes before a Sync once it has found an error: those are not owed any more.
        self.owed.drain(..=place).next_back().map(|(_, error)| error.bytes())
    }

    fn substitute(&mut self, tag: u8, name: &[u8], refusal: &Refusal) -> Vec<u8> {
        let error = ErrorResponse {
            severity: Severity::Error,
            code: SqlState::INSUFFICIENT_PRIVILEGE,
            message: refusal.message.clone(),
            detail: Some(refusal.detail_of(&self.rules)),
            hint: Some(refusal.hint.clone()),
        };
        if self.owed.len() == OWED_MAX {
            self.owed.pop_front();
        }
        let number = rand::random::<u64>();
        self.owed.push_back((number, error));
        let text = format!("{MARKER}{number:016x}\0");
        match tag {
            // No types of parameters.
            frontend::PARSE => message(tag, &[name, &[0], text.as_bytes(), &[0, 0]].concat()),
            // A function call is answered as a query is.
            _ => message(frontend::QUERY, text.as_bytes()),
        }
    }
}

/// How much of a message has to be at hand to judge it, in bytes; `None` of one that is not judged.
pub(super) fn wants(tag: u8) -> Option<usize> {
    matches!(tag, frontend::QUERY | frontend::PARSE | frontend::FUNCTION_CALL).then_some(JUDGED_MAX)
}

/// Whether a message begins with a name that has no end within reason. One that is malformed is left to the server.
fn has_endless_name(tag: u8, payload: &[u8]) -> bool {
    let (names, mut rest) = match tag {
        frontend::PARSE | frontend::EXECUTE => (1, payload),
        frontend::DESCRIBE | frontend::CLOSE => (1, payload.get(1..).unwrap_or_default()),
        frontend::BIND => (2, payload),
        _ => return false,
    };
    for _ in 0..names {
        match string(rest.get(..=NAME_MAX).unwrap_or(rest)) {
            Some((name, _)) => rest = rest.get(name.len() + 1..).unwrap_or_default(),
            None => return rest.len() > NAME_MAX,
        }
    }
    false
}

/// What the server is to complain of.
const MARKER: &str = "sallyport_refused_";
/// The longest name of a prepared statement or portal, in bytes; the server looks at 63.
const NAME_MAX: usize = 1_000;
/// The most of a statement that is waited for, in bytes: more than the judge reads, whatever its name, so that a longer one
/// counts as what cannot be judged.
const JUDGED_MAX: usize = 640 * 1024;
/// Refusals whose errors may be on their way. A server in an aborted pipeline answers none of them.
const OWED_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn judge() -> Judge {
        let capability = PostgresCapability::nothing();
        Judge { capability, rules: Vec::new(), replicates: false, reading: Reading::default(), owed: VecDeque::new() }
    }

    #[test]
    fn an_error_stands_for_its_own_refusal_once_and_for_those_that_were_passed_over() {
        let mut judge = judge();
        let refused: Vec<_> = ["first", "second", "third"]
            .map(|message| {
                let refusal = Refusal::of_any_rule(&judge.capability, message.to_owned(), "");
                judge.substitute(frontend::QUERY, b"", &refusal)
            })
            .into();
        assert_eq!(judge.answer(b"SERROR\0C42601\0Msyntax error\0\0"), None);
        assert_eq!(judge.answer(b"Msyntax error at or near \"sallyport_refused_0123456789abcdef\"\0\0"), None);
        assert_eq!(judge.answer(b"Msallyport_refused_\0\0"), None);
        let told = judge.answer(&refused[1]).unwrap();
        assert!(String::from_utf8_lossy(&told).contains("second"));
        assert_eq!((judge.answer(&refused[0]), judge.answer(&refused[1])), (None, None));
        assert!(String::from_utf8_lossy(&judge.answer(&refused[2]).unwrap()).contains("third"));
    }

    #[test]
    fn a_name_without_end_is_found_in_every_message_that_has_one() {
        let long = vec![b'x'; NAME_MAX + 1];
        let longest = &long[1..];
        for (tag, front) in
            [(b'P', &b""[..]), (b'E', b""), (b'D', b"S"), (b'C', b"P"), (b'B', b""), (b'B', b"portal\0")]
        {
            let tag_name = char::from(tag);
            assert!(has_endless_name(tag, &[front, &long].concat()), "{tag_name}");
            assert!(has_endless_name(tag, &[front, &long, b"\0SELECT 1\0\0\0"].concat()), "{tag_name}");
            assert!(!has_endless_name(tag, &[front, longest, b"\0\0SELECT 1\0\0\0"].concat()), "{tag_name}");
            assert!(!has_endless_name(tag, &[front, b"short, and cut"].concat()), "{tag_name}");
            assert!(!has_endless_name(tag, b""), "{tag_name}");
        }
        assert!(!has_endless_name(b'Q', &long) && !has_endless_name(b'd', &long));
    }
}
