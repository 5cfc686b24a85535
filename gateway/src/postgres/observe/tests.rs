//! What is recorded of sequences of messages. Each test is a conversation, written as the two sides send it.

mod properties;

use sallyport_recorder::{Copied, Parameter, RunBy, Sql, Statement, Transaction};

use super::*;
use crate::postgres::wire::{HEADER, message};

/// A session that is followed, with a clock that moves by a millisecond a message.
struct Session {
    observer: Observer,
    at: Duration,
    events: Vec<Event>,
}

impl Session {
    fn new() -> Self {
        Self::with(ParameterRule::Record)
    }

    fn with(rule: ParameterRule) -> Self {
        Self { observer: Observer::new(rule), at: Duration::ZERO, events: Vec::new() }
    }

    fn client(&mut self, bytes: &[u8]) -> &mut Self {
        self.frames(bytes, true)
    }

    fn server(&mut self, bytes: &[u8]) -> &mut Self {
        self.frames(bytes, false)
    }

    fn frames(&mut self, mut bytes: &[u8], client: bool) -> &mut Self {
        while !bytes.is_empty() {
            let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) - 4;
            let end = HEADER + usize::try_from(length).unwrap();
            let frame = Frame { tag: bytes[0], length, head: &bytes[HEADER..end] };
            self.at += Duration::from_millis(1);
            if client {
                self.observer.client_sent(self.at, frame, &mut self.events);
            } else {
                self.observer.server_sent(self.at, frame, &mut self.events);
            }
            bytes = &bytes[end..];
        }
        self
    }

    fn statements(&mut self) -> Vec<Statement> {
        let events = std::mem::take(&mut self.events);
        events
            .into_iter()
            .map(|event| match event {
                Event::Statement(statement) => *statement,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Text, tag or SQLSTATE, and rows of each statement.
    fn told(&mut self) -> Vec<String> {
        let told = |statement: Statement| {
            let result = statement.error.map_or(statement.tag, |error| error.sqlstate);
            let more = if statement.suspended { " suspended" } else { "" };
            let more = if statement.unfinished { " unfinished" } else { more };
            format!("{} → {result} {}{more}", statement.sql.text, statement.rows)
        };
        self.statements().into_iter().map(told).collect()
    }
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

fn bind(portal: &str, statement: &str, values: &[&str]) -> Vec<u8> {
    let count = u16::try_from(values.len()).unwrap().to_be_bytes();
    let mut payload = [portal.as_bytes(), b"\0", statement.as_bytes(), b"\0\0\0", &count].concat();
    for value in values {
        payload.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        payload.extend(value.as_bytes());
    }
    payload.extend([0, 0]);
    message(b'B', &payload)
}

fn execute(portal: &str) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), b"\0\0\0\0\0"].concat())
}

fn describe(name: &str) -> Vec<u8> {
    message(b'D', &[b"S", name.as_bytes(), b"\0"].concat())
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn done(tag: &str) -> Vec<u8> {
    message(b'C', &[tag.as_bytes(), b"\0"].concat())
}

fn ready(state: u8) -> Vec<u8> {
    message(b'Z', &[state])
}

fn failure(code: &str) -> Vec<u8> {
    message(b'E', &[b"SERROR\0VERROR\0C", code.as_bytes(), b"\0Mno\0\0"].concat())
}

fn rows(count: usize) -> Vec<u8> {
    message(b'D', b"\0\x01\0\0\0\x01a").repeat(count)
}

/// ParseComplete and the like: a tag alone.
fn bare(tags: &[u8]) -> Vec<u8> {
    tags.iter().flat_map(|tag| message(*tag, b"")).collect()
}

#[test]
fn a_simple_query_is_one_event_with_its_result() {
    let mut session = Session::new();
    session.client(&query("SELECT 1")).server(&message(b'T', b"\0\0")).server(&rows(3)).server(&done("SELECT 3"));
    assert!(session.events.is_empty(), "the state of the transaction is still to come");
    session.server(&ready(b'I'));
    let expected = Statement {
        sql: Sql { text: "SELECT 1".into(), ..Sql::default() },
        by: RunBy::Query,
        rows: 3,
        bytes: 21,
        duration_us: 5_000,
        tag: "SELECT 3".into(),
        transaction: Some(Transaction::Idle),
        ..Statement::default()
    };
    assert_eq!(session.statements(), [expected]);
}

#[test]
fn each_statement_of_a_simple_query_is_told_apart() {
    let mut session = Session::new();
    session.client(&query("BEGIN; SELECT ';'; DELETE FROM t; SELECT 2"));
    session.server(&done("BEGIN")).server(&message(b'T', b"\0\0")).server(&rows(1)).server(&done("SELECT 1"));
    session.server(&failure("42P01")).server(&ready(b'E'));
    let last = session.events.last().cloned();
    assert_eq!(session.told(), ["BEGIN → BEGIN 0", "SELECT ';' → SELECT 1 1", "DELETE FROM t → 42P01 0"]);
    let Some(Event::Statement(last)) = last else { panic!("no statement") };
    assert_eq!(last.transaction, Some(Transaction::Failed));
    session.client(&query("ROLLBACK")).server(&done("ROLLBACK")).server(&ready(b'I'));
    assert_eq!(session.told(), ["ROLLBACK → ROLLBACK 0"]);
}

#[test]
fn an_execute_is_what_its_portal_was_bound_to() {
    let mut session = Session::new();
    session.client(&[parse("s1", "SELECT $1"), describe("s1"), sync()].concat());
    session.server(&bare(b"1")).server(&message(b't', &[0, 1, 0, 0, 0, 23])).server(&message(b'T', b"\0\0"));
    session.server(&ready(b'I'));
    session.client(&[bind("", "s1", &["7"]), execute(""), bind("", "s1", &["8"]), execute(""), sync()].concat());
    session.server(&bare(b"2")).server(&rows(1)).server(&done("SELECT 1"));
    session.server(&bare(b"2")).server(&rows(2)).server(&done("SELECT 2")).server(&ready(b'I'));
    let statements = session.statements();
    let seen: Vec<_> = statements.iter().map(|one| (one.statement.as_str(), &one.parameters[0], one.rows)).collect();
    let value = |text: &str| Parameter { kind: "int4".into(), value: Some(text.into()), bytes: None };
    assert_eq!(seen, [("s1", &value("7"), 1), ("s1", &value("8"), 2)]);
    assert_eq!(statements[0].by, RunBy::Execute);
    assert_eq!((statements[0].transaction, statements[1].transaction), (None, Some(Transaction::Idle)));
}

#[test]
fn after_an_error_everything_up_to_the_next_sync_is_passed_over() {
    let one = |sql: &str| [parse("", sql), bind("", "", &[]), execute("")].concat();
    let mut session = Session::new();
    session.client(&[one("A"), one("B"), one("C"), sync(), one("D"), sync()].concat());
    session.server(&bare(b"12")).server(&done("A")).server(&bare(b"12")).server(&failure("23505")).server(&ready(b'I'));
    session.server(&bare(b"12")).server(&done("D")).server(&ready(b'I'));
    assert_eq!(session.told(), ["A → A 0", "B → 23505 0", "D → D 0"]);

    // The same, with the error there before the client has sent the rest.
    session.client(&parse("", "X")).server(&failure("42601")).client(&[one("Y"), query("Z"), sync()].concat());
    session.server(&ready(b'I')).client(&query("W")).server(&done("W")).server(&ready(b'I'));
    assert_eq!(session.told(), ["X → 42601 0", "W → W 0"]);
}

#[test]
fn what_cannot_be_prepared_or_bound_is_recorded_as_such() {
    let mut session = Session::new();
    session.client(&[parse("a", "SELEC"), sync()].concat()).server(&failure("42601")).server(&ready(b'I'));
    session.client(&[parse("a", "SELECT $1::int"), sync()].concat()).server(&bare(b"1")).server(&ready(b'I'));
    session
        .client(&[bind("p", "a", &["x"]), execute("p"), sync()].concat())
        .server(&failure("22P02"))
        .server(&ready(b'I'));
    let statements = session.statements();
    assert_eq!(statements.iter().map(|one| one.by).collect::<Vec<_>>(), [RunBy::Parse, RunBy::Bind]);
    assert_eq!((statements[1].portal.as_str(), statements[1].sql.text.as_str()), ("p", "SELECT $1::int"));
    assert_eq!(statements[1].parameters[0].value.as_deref(), Some("x"));
}

#[test]
fn a_suspended_portal_goes_on_and_a_replaced_statement_is_the_new_one() {
    let mut session = Session::new();
    session.client(&[parse("", "A"), bind("p", "", &[]), execute("p"), message(b'H', b"")].concat());
    session.server(&bare(b"12")).server(&rows(2)).server(&bare(b"s"));
    session.client(&[parse("", "B"), execute("p"), bind("", "", &[]), execute(""), sync()].concat());
    session.server(&bare(b"1")).server(&rows(1)).server(&done("SELECT 1")).server(&bare(b"2")).server(&done("B"));
    session.server(&ready(b'I'));
    assert_eq!(session.told(), ["A →  2 suspended", "A → SELECT 1 1", "B → B 0"]);
    session.client(&[message(b'C', b"S\0"), bind("", "", &[]), execute(""), sync()].concat());
    session.server(&bare(b"3")).server(&failure("26000")).server(&ready(b'I'));
    assert_eq!(session.told(), [" → 26000 0"], "a closed statement is not known any more");
}

#[test]
fn copied_data_is_counted_and_a_sync_in_it_is_passed_over() {
    let data = |count: usize| message(b'd', b"abc").repeat(count);
    let mut session = Session::new();
    session.client(&query("COPY t FROM STDIN")).server(&message(b'G', b"\0\0\0")).client(&data(5)).client(&bare(b"c"));
    session.server(&done("COPY 5")).server(&ready(b'I'));
    // As libpq does: it sends Sync at once, which the server passes over, and again at the end.
    session.client(&[parse("", "COPY t FROM STDIN"), bind("", "", &[]), execute(""), sync()].concat());
    session.server(&bare(b"12")).server(&message(b'G', b"\0\0\0")).client(&data(2)).client(&bare(b"cS"));
    session.server(&done("COPY 2")).server(&ready(b'I'));
    // All at once.
    session.client(&[parse("", "COPY t FROM STDIN"), bind("", "", &[]), execute("")].concat());
    session.client(&data(4)).client(&bare(b"cS")).server(&bare(b"12")).server(&message(b'G', b"\0\0\0"));
    session.server(&done("COPY 4")).server(&ready(b'I'));
    // The server does not like the data.
    session.client(&query("COPY t FROM STDIN")).server(&message(b'G', b"\0\0\0")).client(&data(1));
    session.server(&failure("22P04")).server(&ready(b'I')).client(&data(3)).client(&bare(b"c"));
    session.client(&query("COPY t TO STDOUT")).server(&message(b'H', b"\0\0\0")).server(&data(3)).server(&bare(b"c"));
    session.server(&done("COPY 3")).server(&ready(b'I'));
    let statements = session.statements();
    let copied: Vec<_> = statements.iter().map(|one| one.copy.unwrap()).collect();
    let into = |count| Copied { messages_in: count, bytes_in: 3 * count, ..Copied::default() };
    let out = Copied { messages_out: 3, bytes_out: 9, ..Copied::default() };
    assert_eq!(copied, [into(5), into(2), into(4), into(1), out]);
    assert_eq!(statements[3].error.as_ref().unwrap().sqlstate, "22P04");
    assert_eq!(session.observer.ready_due, 0);
}

#[test]
fn nothing_is_hidden_behind_copied_data_that_a_server_does_not_take() {
    let copy = || [parse("", "COPY t FROM STDIN"), bind("", "", &[]), execute("")].concat();
    let one = |sql: &str| [parse("", sql), bind("", "", &[]), execute(""), sync()].concat();
    let (bad, taking) = (message(b'd', b"bad\tdata\n"), message(b'G', b"\0\0\0"));
    let answered = |tag: &str| [bare(b"12"), done(tag), ready(b'I')].concat();
    for ahead in [false, true] {
        let mut session = Session::new();
        let behind = [bad.clone(), sync(), query("A"), one("B")].concat();
        if ahead {
            session.client(&[copy(), behind].concat()).server(&bare(b"12")).server(&taking);
        } else {
            session.client(&copy()).server(&bare(b"12")).server(&taking).client(&behind);
        }
        // The server fails before it comes to the Sync, which it answers then.
        session.server(&failure("22P04")).server(&ready(b'I')).server(&done("A")).server(&ready(b'I'));
        session.server(&answered("B"));
        assert_eq!(session.told(), ["COPY t FROM STDIN → 22P04 0", "A → A 0", "B → B 0"], "{ahead}");
        // It passes over the first Sync and fails then, as with libpq; or before both.
        for readies in [1, 2] {
            session.client(&[copy(), sync()].concat()).server(&bare(b"12")).server(&taking).client(&bad);
            session.server(&failure("22P04")).client(&[bare(b"c"), sync()].concat());
            session.server(&ready(b'I').repeat(readies)).client(&[query("C"), one("D")].concat());
            session.server(&done("C")).server(&ready(b'I')).server(&answered("D"));
            assert_eq!(session.told(), ["COPY t FROM STDIN → 22P04 0", "C → C 0", "D → D 0"], "{readies}");
        }
        assert!(session.observer.pending.is_empty() && session.observer.ready_due == 0);
    }
}

#[test]
fn names_are_told_apart_as_the_server_does() {
    let name = |end: &str| "n".repeat(63) + end;
    let mut session = Session::new();
    session.client(&[parse(&name("x"), "A"), message(b'C', format!("S{}\0", name("y")).as_bytes())].concat());
    session.client(&[parse(&name("y"), "B"), bind("p", &name("x"), &[]), execute("p"), sync()].concat());
    session.server(&bare(b"1312")).server(&done("B")).server(&ready(b'I'));
    assert_eq!(session.told(), ["A →  0 unfinished", "B → B 0"], "to the server, both names are one");
    // By the encodings of both sides, what is two here can be one there, and the other way round.
    session.client(&[parse("é", "C"), bind("", "é", &[]), execute(""), sync()].concat());
    session.server(&bare(b"12")).server(&done("C")).server(&ready(b'I'));
    assert_eq!(session.told(), ["C →  0 unfinished", " → C 0"]);
}

#[test]
fn what_is_prepared_is_written_down_whatever_runs_it() {
    let mut session = Session::new();
    session.client(&[parse("s", "A"), sync()].concat()).server(&bare(b"1")).server(&ready(b'I'));
    session.client(&query("EXECUTE s")).server(&done("SELECT 1")).server(&ready(b'I'));
    assert_eq!(session.told(), ["EXECUTE s → SELECT 1 0"]);
    session.client(&[message(b'C', b"S\0"), message(b'C', b"Ss\0"), sync()].concat());
    session.server(&bare(b"33")).server(&ready(b'I'));
    assert_eq!(session.told(), ["A →  0 unfinished"]);
    // A name that SQL gives to something else.
    session.client(&[parse("s", "B"), bind("p", "s", &[]), execute("p"), sync()].concat());
    session.server(&bare(b"12")).server(&done("B")).server(&ready(b'T'));
    session.client(&query("DEALLOCATE s; PREPARE s AS SELECT 1; CLOSE p; DECLARE p CURSOR FOR SELECT 2"));
    for tag in ["DEALLOCATE", "PREPARE", "CLOSE CURSOR", "DECLARE CURSOR"] {
        session.server(&done(tag));
    }
    session.server(&ready(b'T'));
    session.client(&[bind("", "s", &[]), execute(""), execute("p"), sync()].concat());
    session.server(&bare(b"2")).server(&done("SELECT 1")).server(&done("SELECT 2")).server(&ready(b'T'));
    let told = session.told();
    assert_eq!(told[0], "B → B 0");
    assert_eq!(told[5..], ["PREPARE s AS SELECT 1 → SELECT 1 0", "DECLARE p CURSOR FOR SELECT 2 → SELECT 2 0"]);
    // Some name or other.
    session.client(&[parse("t", "C"), query("PREPARE U&\"t\" AS SELECT 3"), bind("", "t", &[]), execute("")].concat());
    session.client(&sync()).server(&bare(b"1")).server(&done("PREPARE")).server(&ready(b'T')).server(&bare(b"2"));
    session.server(&done("SELECT 3")).server(&ready(b'T'));
    let told = session.told();
    assert_eq!(told, ["C →  0 unfinished", "PREPARE U&\"t\" AS SELECT 3 → PREPARE 0", " → SELECT 3 0"]);
}

#[test]
fn what_does_not_fit_the_tables_is_written_down_at_once() {
    let mut session = Session::new();
    let filler = "x".repeat(16_000);
    for number in 0..600 {
        session.client(&parse(&format!("s{number}"), &filler)).server(&bare(b"1"));
    }
    session.events.clear();
    session.client(&[parse("t", "A"), bind("", "t", &["1"]), execute(""), sync()].concat());
    session.server(&bare(b"12")).server(&done("A")).server(&ready(b'T'));
    assert_eq!(session.told(), ["A →  0 unfinished", " → A 0"]);
    // Portals keep their statements' texts alive.
    for number in 0..600 {
        session.client(&bind(&format!("p{number}"), "s1", &["7"])).server(&bare(b"2"));
    }
    let told = session.statements();
    assert!((50..200).contains(&told.len()), "{}", told.len());
    assert!(told.iter().all(|one| one.by == RunBy::Bind && one.parameters.len() == 1 && !one.sql.text.is_empty()));
}

#[test]
fn a_text_that_settings_could_have_cut_elsewhere_is_recorded_whole() {
    for text in ["SELECT '\\'; SELECT 2; -- ', secret FROM t", "SELECT 'é'; SELECT 2"] {
        let mut session = Session::new();
        session.client(&query(text)).server(&done("SELECT 1")).server(&done("SELECT 2")).server(&ready(b'I'));
        assert!(session.statements().iter().all(|one| one.sql.text == text), "{text}");
    }
    // Once, where it is long.
    let text = format!("SELECT '{}'; SELECT 2", "é".repeat(1_000));
    let mut session = Session::new();
    session.client(&query(&text)).server(&done("SELECT 1")).server(&done("SELECT 2")).server(&ready(b'I'));
    let [first, second] = session.statements().try_into().unwrap();
    assert_eq!((&first.sql.text, first.sql.length), (&text, None));
    assert!(second.sql.text.len() <= 256 && text.starts_with(&second.sql.text));
    assert_eq!(second.sql.length, Some(text.len() as u64));
}

#[test]
fn what_comes_in_between_belongs_to_no_statement() {
    let mut session = Session::new();
    let notice = message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mhello\0\0");
    let notification = message(b'A', b"\0\0\0\x01jobs\0payload\0");
    session.client(&query("SELECT 1")).server(&notice).server(&message(b'S', b"a\0b\0")).server(&done("SELECT 0"));
    session.server(&ready(b'I')).server(&notification).server(&failure("57P01"));
    let kinds: Vec<_> = session.events.iter().map(Event::text).collect();
    assert_eq!(kinds, ["NOTICE 00000: hello", "SELECT 1", "jobs payload", "ERROR 57P01: no"]);
}

#[test]
fn functions_by_number_are_recorded() {
    let mut session = Session::new();
    session.client(&message(b'F', &[0, 0, 3, 0xbb, 0, 0])).server(&message(b'V', b"\0\0\0\x01x")).server(&ready(b'I'));
    let [Event::FunctionCall(call)] = session.events.as_slice() else { panic!("{:?}", session.events) };
    assert_eq!((call.function, call.name.as_str(), call.received), (955, "lowrite", 5));
}

#[test]
fn a_session_that_is_cut_off_leaves_what_was_running() {
    let mut session = Session::new();
    session.client(&[parse("", "A"), bind("", "", &["1"]), execute(""), query("B; C")].concat()).server(&bare(b"1"));
    let at = session.at;
    session.observer.finish(at, &mut session.events);
    assert_eq!(session.told(), ["A →  0 unfinished", "B →  0 unfinished"]);
    session.client(&query("B; C")).server(&done("B"));
    let at = session.at;
    session.observer.finish(at, &mut session.events);
    assert_eq!(session.told(), ["B → B 0", "C →  0 unfinished"]);
}

#[test]
fn hidden_values_and_passwords_are_not_recorded() {
    let mut session = Session::with(ParameterRule::Hide);
    session.client(&[parse("", "SELECT $1"), bind("", "", &["s3cret"]), execute(""), sync()].concat());
    session.server(&bare(b"12")).server(&done("SELECT 0")).server(&ready(b'I'));
    session.client(&query("ALTER ROLE a PASSWORD 's3cret'")).server(&done("ALTER ROLE")).server(&ready(b'I'));
    session.client(&message(b'p', b"s3cret\0"));
    let all = format!("{:?}", session.events);
    assert!(!all.contains("s3cret") && all.contains("PASSWORD '***'") && all.contains("bytes: Some(6)"), "{all}");
}

#[test]
fn errors_do_not_tell_hidden_values() {
    let told = |rule, script: &[u8], answers: &[u8]| {
        let mut session = Session::with(rule);
        session.client(script).server(answers);
        session.statements().pop().unwrap().error.unwrap()
    };
    let failed = message(b'E', b"SERROR\0C22P02\0Minvalid input syntax for type integer: \"s3cret\"\0\0");
    let at_bind = [parse("", "SELECT $1::int"), bind("", "", &["s3cret"]), sync()].concat();
    let at_execute = [parse("", "SELECT $1::int"), bind("", "", &["s3cret"]), execute(""), sync()].concat();
    let unbound = [parse("", "SELECT 'x'::int"), bind("", "", &[]), execute(""), sync()].concat();
    for (name, rule, script, before, tells) in [
        ("at Bind", ParameterRule::Hide, &at_bind, bare(b"1"), false),
        ("at Execute", ParameterRule::Hide, &at_execute, bare(b"12"), false),
        ("of a portal that is not known", ParameterRule::Hide, &execute("c"), Vec::new(), false),
        ("of a statement without values", ParameterRule::Hide, &unbound, bare(b"12"), true),
        ("of a simple query", ParameterRule::Hide, &query("SELECT 's3cret'::int"), Vec::new(), true),
        ("of a password", ParameterRule::Record, &query("ALTER ROLE a PASSWORD 's3cret"), Vec::new(), false),
        ("where values are recorded", ParameterRule::Record, &at_bind, bare(b"1"), true),
    ] {
        let error = told(rule, script, &[before, failed.clone(), ready(b'I')].concat());
        assert_eq!((error.sqlstate.as_str(), error.message.contains("s3cret")), ("22P02", tells), "{name}");
    }
}

#[test]
fn notices_do_not_tell_hidden_values() {
    let notice = message(b'N', b"SNOTICE\0C00000\0Mthe card is s3cret\0\0");
    let bound = [parse("", "SELECT f($1)"), bind("", "", &["s3cret"]), execute(""), sync()].concat();
    for (name, rule, script, before, tells) in [
        ("of a function", ParameterRule::Hide, &bound, bare(b"12"), false),
        ("at the end of the transaction", ParameterRule::Hide, &bound, [bare(b"12"), done("SELECT 1")].concat(), false),
        ("of a simple query", ParameterRule::Hide, &query("SELECT f('s3cret')"), Vec::new(), true),
        ("where values are recorded", ParameterRule::Record, &bound, bare(b"12"), true),
    ] {
        let mut session = Session::with(rule);
        session.client(script).server(&[before, notice.clone()].concat());
        let notice = session.events.iter().find(|event| matches!(event, Event::Notice(_)));
        assert_eq!(format!("{notice:?}").contains("s3cret"), tells, "{name}: {notice:?}");
    }
}

#[test]
fn answers_that_fit_nothing_are_a_gap_that_ends() {
    let mut session = Session::new();
    session.client(&[parse("", "A"), query("B"), sync()].concat()).server(&done("A"));
    assert!(matches!(session.events.remove(0), Event::Gap { .. }));
    assert_eq!(session.told(), ["B →  0 unfinished", "A →  0 unfinished"]);
    // What is sent meanwhile is written down all the same.
    session.client(&[query("D"), parse("s", "E"), bind("", "s", &["1"]), execute(""), sync()].concat());
    session.server(&done("B")).server(&ready(b'I')).server(&ready(b'I')).server(&ready(b'I')).server(&ready(b'I'));
    let statements = session.statements();
    let seen: Vec<_> = statements.iter().map(|one| (one.sql.text.as_str(), one.by, one.parameters.len())).collect();
    assert_eq!(seen, [("D", RunBy::Query, 0), ("E", RunBy::Parse, 0), ("", RunBy::Execute, 1)]);
    assert!(statements.iter().all(|one| one.unfinished));
    session.client(&query("C")).server(&done("C")).server(&ready(b'I'));
    assert_eq!(session.told(), ["C → C 0"]);
}

#[test]
fn a_hundred_thousand_statements_in_a_burst_are_all_recorded() {
    let mut session = Session::new();
    session.client(&[parse("s", "SELECT $1"), sync()].concat()).server(&bare(b"1")).server(&ready(b'I'));
    for _ in 0..100 {
        let batch: Vec<u8> =
            (0..1_000).flat_map(|n: u32| [bind("", "s", &[&n.to_string()]), execute("")].concat()).collect();
        session.client(&batch).client(&sync());
        assert!(!session.observer.is_full());
        for _ in 0..1_000 {
            session.server(&bare(b"2")).server(&done("SELECT 1"));
        }
        session.server(&ready(b'I'));
    }
    let statements = session.statements();
    assert_eq!(statements.len(), 100_000);
    for (at, one) in statements.iter().enumerate() {
        assert_eq!(one.parameters[0].value.as_deref(), Some((at % 1_000).to_string().as_str()));
    }
    assert!(session.observer.pending.is_empty() && session.observer.ready_due == 0);
}

#[test]
fn a_server_that_answers_nothing_has_little_kept_for_it_however_long_the_messages_are() {
    // A simple query is answered by itself; answers to the others a server may hold back until it is told not to.
    let kept = |message: Vec<u8>| {
        let mut session = Session::new();
        let sent = (1..=super::PENDING_FULL).find(|_| session.client(&message).observer.is_full());
        (sent.unwrap(), session.observer.pending.iter().map(super::Expect::size).sum::<usize>())
    };
    let long = "x".repeat(60_000);
    for message in [parse("s", &long), bind("", "s", &[long.as_str(); 100])] {
        let (sent, bytes) = kept(message);
        assert!(sent == super::PENDING_MANY && bytes < 45_000_000, "{sent} messages, {bytes} bytes");
    }
    for message in [query(&long), query(&"0;".repeat(8_000)), query(&"SELECT 1;".repeat(60))] {
        let (sent, bytes) = kept(message);
        assert!(bytes < 2 * super::PENDING_BYTES, "{sent} messages, {bytes} bytes");
    }
    assert_eq!(kept(sync()).0, super::PENDING_FULL, "and short ones are as many as before");
}
