//! What the names of prepared statements and portals stand for.
//!
//! Every text that was prepared under a name is written down: with the first Execute of it, or else when the name stops
//! standing for it, because EXECUTE in SQL runs it as well. What cannot be kept is written down at once.

use std::sync::Arc;

use sallyport_policies::sql::given_name;
use sallyport_recorder::{Event, RunBy, Sql, Statement};

use super::expect::{Parse, Portal, Prepared};
use super::{Bound, Observer};
use super::{over::shown, value::parameter};

impl Observer {
    pub(super) fn keep_prepared(&mut self, parse: Parse, out: &mut Vec<Event>) {
        let Parse { name, text, types, .. } = parse;
        self.keep(name, Prepared::new(text.sql(), types, false), out);
    }

    pub(super) fn keep_bound(&mut self, bound: Bound, out: &mut Vec<Event>) {
        let name = bound.portal.clone();
        let portal = self.portal(bound);
        let values: usize = portal.parameters.iter().map(|one| one.value.as_ref().map_or(0, String::len)).sum();
        // It keeps its statement's text alive.
        let text = portal.prepared.as_ref().map_or(0, |prepared| prepared.sql.text.len());
        if let Err((name, portal)) = self.portals.insert(name, portal, values.saturating_add(text)) {
            self.release(None, out);
            let bound = Statement { by: RunBy::Bind, unfinished: true, ..shown(&portal, name) };
            out.push(Event::Statement(Box::new(bound)));
        }
    }

    /// What was bound to what, by what the names stand for now.
    pub(super) fn portal(&self, bound: Bound) -> Portal {
        let prepared = self.statements.get(&bound.statement).cloned();
        let oid = |at: usize| prepared.as_ref().and_then(|known| known.types.get(at)).copied().unwrap_or(0);
        let values = bound.values.iter().enumerate().map(|(at, raw)| parameter(raw, oid(at), self.rule));
        let parameters = Arc::new(values.collect());
        Portal { prepared, statement: bound.statement, parameters, more: bound.more }
    }

    /// A PREPARE or DECLARE in SQL has given a name, which Bind and Execute know as well.
    pub(super) fn named_in_sql(&mut self, tag: &str, sql: &Sql, out: &mut Vec<Event>) {
        let settled = sql.length.is_none() && sql.text.is_ascii() && !sql.text.contains('\\');
        let name = settled.then(|| given_name(&sql.text)).flatten();
        let prepared = Prepared::new(sql.clone(), Vec::new(), true);
        match (tag, name) {
            ("PREPARE", Some(name)) => self.keep(name, prepared, out),
            ("PREPARE", None) => self.forget(out),
            (_, Some(name)) => {
                let bytes = sql.text.len();
                let portal = Portal { prepared: Some(Arc::new(prepared)), ..Portal::default() };
                let _too_many = self.portals.insert(name, portal, bytes);
            }
            (_, None) => self.portals.clear(),
        }
    }

    /// A name stands for nothing any more.
    pub(super) fn forget_prepared(&mut self, name: &str, out: &mut Vec<Event>) {
        let gone = self.statements.remove(name);
        // What has no name cannot be run from SQL.
        if let Some(prepared) = gone.filter(|_| !name.is_empty()) {
            self.tell(name.to_owned(), &prepared, out);
        }
    }

    /// All names of statements may stand for something else from here on.
    pub(super) fn forget(&mut self, out: &mut Vec<Event>) {
        for (name, prepared) in self.statements.drain() {
            if self.lost || !name.is_empty() {
                self.tell(name, &prepared, out);
            }
        }
    }

    fn keep(&mut self, name: String, prepared: Prepared, out: &mut Vec<Event>) {
        self.forget_prepared(&name, out);
        let bytes = prepared.sql.text.len();
        if let Err((name, prepared)) = self.statements.insert(name, Arc::new(prepared), bytes) {
            self.tell(name, &prepared, out);
        }
    }

    /// Writes down what was prepared, unless that was done.
    fn tell(&mut self, name: String, prepared: &Prepared, out: &mut Vec<Event>) {
        if prepared.is_told() {
            return;
        }
        self.release(None, out);
        let told = Statement {
            sql: prepared.tell(),
            by: RunBy::Parse,
            statement: name,
            unfinished: true,
            ..Statement::default()
        };
        out.push(Event::Statement(Box::new(told)));
    }
}
