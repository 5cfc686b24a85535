//! Statements that are over, as events.

use std::time::Duration;

use sallyport_policies::ParameterRule;
use sallyport_policies::sql::{is_masked, large_object};
use sallyport_recorder::{DatabaseError, Event, FunctionCall, RunBy, Sql, Statement, Transaction};

use super::expect::{Execute, Expect, Outcome, Portal};
use super::{Bound, Observer};

impl Observer {
    /// The first message in the row has a result.
    pub(super) fn complete(&mut self, at: Duration, tag: String, out: &mut Vec<Event>) -> bool {
        self.copying = false;
        match self.pending.front() {
            Some(Expect::Query(_)) => self.query_over(at, &tag, None, out),
            Some(Expect::Execute(_)) => {
                if let Some(Expect::Execute(execute)) = self.pending.pop_front() {
                    self.execute_over(at, *execute, tag, None, out);
                }
            }
            _ => return false,
        }
        true
    }

    pub(super) fn suspended(&mut self, at: Duration, out: &mut Vec<Event>) -> bool {
        if let Some(Expect::Execute(execute)) = self.pending.pop_front() {
            let statement = Statement { suspended: true, ..self.of_portal(at, *execute) };
            self.hold(statement, at, out);
        }
        true
    }

    pub(super) fn called(&mut self, at: Duration, received: u64, out: &mut Vec<Event>) -> bool {
        if let Some(Expect::Call(call)) = self.pending.front_mut() {
            call.done = true;
        }
        self.call_over(at, received, None, out);
        true
    }

    /// The statement of a simple query that runs now is over; the query goes on with the next one.
    pub(super) fn query_over(&mut self, at: Duration, tag: &str, error: Option<DatabaseError>, out: &mut Vec<Event>) {
        let free = self.free;
        let Some(Expect::Query(query)) = self.pending.front_mut() else { return };
        let result = std::mem::take(&mut query.result);
        let sql = query.sql();
        query.over = query.over.saturating_add(1);
        let statement = of_query(sql, result, at.saturating_sub(query.sent.max(free)));
        self.hold(Statement { tag: tag.to_owned(), error, ..statement }, at, out);
    }

    pub(super) fn execute_over(
        &mut self,
        at: Duration,
        execute: Execute,
        tag: String,
        error: Option<DatabaseError>,
        out: &mut Vec<Event>,
    ) {
        let statement = Statement { tag, error, ..self.of_portal(at, execute) };
        self.hold(statement, at, out);
    }

    pub(super) fn call_over(
        &mut self,
        at: Duration,
        received: u64,
        error: Option<DatabaseError>,
        out: &mut Vec<Event>,
    ) {
        let Some(Expect::Call(call)) = self.pending.front() else { return };
        let event = FunctionCall {
            function: call.function,
            name: large_object(call.function).unwrap_or_default().to_owned(),
            sent: call.sent_bytes,
            received,
            duration_us: micros(at.saturating_sub(call.sent.max(self.free))),
            error,
            unfinished: false,
        };
        self.release(None, out);
        self.free = at;
        out.push(Event::FunctionCall(event));
    }

    /// A statement that could not be prepared.
    pub(super) fn not_run(
        &mut self,
        at: Duration,
        sent: Duration,
        by: RunBy,
        (statement, sql): (String, Sql),
        error: DatabaseError,
        out: &mut Vec<Event>,
    ) {
        let duration_us = micros(at.saturating_sub(sent.max(self.free)));
        let failed = Statement { sql, by, statement, duration_us, error: Some(error), ..Statement::default() };
        self.hold(failed, at, out);
    }

    /// A statement to which values could not be bound.
    pub(super) fn not_bound(
        &mut self,
        at: Duration,
        sent: Duration,
        bound: Bound,
        error: DatabaseError,
        out: &mut Vec<Event>,
    ) {
        let name = bound.portal.clone();
        let duration_us = micros(at.saturating_sub(sent.max(self.free)));
        let statement = shown(&self.portal(bound), name);
        self.hold(Statement { by: RunBy::Bind, duration_us, error: Some(error), ..statement }, at, out);
    }

    /// What was sent when the session ended.
    pub(super) fn unfinished(&mut self, at: Duration, expect: Expect, out: &mut Vec<Event>) {
        let statement = match expect {
            Expect::Query(query) if !query.done && (query.over == 0 || query.over < query.pieces.len()) => {
                let sql = query.sql();
                of_query(sql, query.result, at.saturating_sub(query.sent.max(self.free)))
            }
            Expect::Execute(execute) => self.of_portal(at, *execute),
            Expect::Parse(parse) => return self.keep_prepared(*parse, out),
            Expect::Bind(bound, _) => return self.keep_bound(*bound, out),
            Expect::Call(call) if !call.done => {
                let (function, sent) = (call.function, call.sent_bytes);
                let name = large_object(function).unwrap_or_default().to_owned();
                let call = FunctionCall { function, name, sent, unfinished: true, ..FunctionCall::default() };
                return out.push(Event::FunctionCall(call));
            }
            _ => return,
        };
        out.push(Event::Statement(Box::new(Statement { unfinished: true, ..statement })));
    }

    fn of_portal(&self, at: Duration, execute: Execute) -> Statement {
        let Execute { portal: name, sent, result: Outcome { rows, bytes, copied } } = execute;
        let duration_us = micros(at.saturating_sub(sent.max(self.free)));
        let statement = match self.portals.get(&name) {
            Some(portal) => shown(portal, name),
            None => Statement { portal: name, ..Statement::default() },
        };
        Statement { by: RunBy::Execute, rows, bytes, copy: copied, duration_us, ..statement }
    }

    /// Keeps an event back until the server tells the state of the transaction, which it does at once unless there is more.
    fn hold(&mut self, mut statement: Statement, at: Duration, out: &mut Vec<Event>) {
        self.free = at;
        let conceals = self.conceals(&statement);
        if let Some(error) = statement.error.as_mut().filter(|_| conceals) {
            error.message = CONCEALED.to_owned();
        }
        if matches!(statement.tag.as_str(), "PREPARE" | "DECLARE CURSOR") {
            self.named_in_sql(&statement.tag, &statement.sql, out);
        }
        if self.held.len() >= HELD_MAX {
            self.release(None, out);
        }
        self.held.push(statement);
        if self.ready_due == 0 {
            self.release(None, out);
        }
    }

    /// Whether something is hidden that the words of its error may tell: `invalid input syntax for type integer: "…"`, or
    /// `unterminated quoted string at or near "'…"` of a password.
    fn conceals(&self, statement: &Statement) -> bool {
        let bound = !statement.parameters.is_empty() || statement.more_parameters > 0;
        let unknown = statement.by != RunBy::Query && statement.sql.text.is_empty();
        is_masked(&statement.sql.text) || self.rule == ParameterRule::Hide && (bound || unknown)
    }

    /// Words of the server's about nothing that is recorded with them: what runs may have put hidden values into them. Those
    /// about a simple query tell no more than its text.
    pub(super) fn heard(&self, mut said: DatabaseError) -> Event {
        let open = matches!(self.pending.front(), None | Some(Expect::Query(_)));
        if self.rule == ParameterRule::Hide && !open {
            said.message = CONCEALED.to_owned();
        }
        Event::Notice(said)
    }

    /// Gives out what was kept back; the last of it is what the state of the transaction follows from.
    pub(super) fn release(&mut self, transaction: Option<Transaction>, out: &mut Vec<Event>) {
        if let Some(last) = self.held.last_mut() {
            last.transaction = transaction;
        }
        out.extend(self.held.drain(..).map(|statement| Event::Statement(Box::new(statement))));
    }
}

fn of_query(sql: Sql, result: Outcome, took: Duration) -> Statement {
    let Outcome { rows, bytes, copied } = result;
    Statement { sql, by: RunBy::Query, rows, bytes, copy: copied, duration_us: micros(took), ..Statement::default() }
}

pub(super) fn shown(portal: &Portal, name: String) -> Statement {
    Statement {
        sql: portal.prepared.as_ref().map(|prepared| prepared.tell()).unwrap_or_default(),
        statement: portal.statement.clone(),
        portal: name,
        parameters: portal.parameters.as_ref().clone(),
        more_parameters: portal.more,
        ..Statement::default()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// In the place of words that may tell a hidden value.
const CONCEALED: &str = "(not recorded: it may tell what is hidden)";
/// Statements that are kept back, at most.
const HELD_MAX: usize = 32;
