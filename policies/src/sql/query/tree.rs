//! What a query needs by the parser's tree: its statements, the functions that it calls and the settings that it changes.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Insert, ObjectName,
    OnConflictAction, OnInsert, Query, Select, SetExpr, Statement, TableFactor, TableObject, Value, Visitor,
};

use crate::sql::{Need, setting};

/// What stands in the tree of one statement.
#[derive(Default)]
pub(super) struct Found {
    /// The statements in it, by the names that rules have for them.
    pub(super) statements: BTreeSet<&'static str>,
    /// The functions that are called: schema, where there is one, and name.
    pub(super) functions: Vec<(Option<String>, String)>,
    /// What calls of `set_config` need; something wherever there is one.
    pub(super) settings: Vec<Need>,
    /// Whether rows are locked.
    pub(super) locks: bool,
    /// Relations, aliases and types, which may stand before a parenthesis as functions do.
    pub(super) names: BTreeSet<String>,
    /// Something in it is not PostgreSQL's, or not known.
    pub(super) unknown: bool,
}

impl Found {
    fn call(&mut self, name: &ObjectName) {
        match parts(name) {
            // To the parser a function, to the server syntax: reserved words, unless they are quoted.
            Some((None, word)) if SYNTAX.contains(&word.as_str()) && !is_quoted(name) => {}
            Some((schema, name)) => self.functions.push((schema, name)),
            None => self.unknown = true,
        }
    }

    fn function(&mut self, function: &Function) {
        match parts(&function.name) {
            Some((None, name)) if name == "set_config" => self.set_config(&function.args),
            Some((Some(schema), name)) if name == "set_config" && schema == "pg_catalog" => {
                self.set_config(&function.args)
            }
            _ => self.call(&function.name),
        }
    }

    fn set_config(&mut self, arguments: &FunctionArguments) {
        let text = |at: usize| match arguments {
            FunctionArguments::List(list) => list.args.get(at).and_then(plain_string),
            _ => None,
        };
        let needs = setting::set_config(text(0).as_deref(), text(1).as_deref());
        // That it was seen shows in there being something, if only what a SELECT needs anyway.
        self.settings.push(Need::Statement("select"));
        self.settings.extend(needs);
    }

    fn name(&mut self, name: &ObjectName) {
        match parts(name) {
            Some((_, name)) => _ = self.names.insert(name),
            None => self.unknown = true,
        }
    }

    fn insert(&mut self, insert: &Insert) {
        self.statements.insert("insert");
        match &insert.table {
            TableObject::TableName(name) => self.name(name),
            _ => self.unknown = true,
        }
        self.unknown |= insert.overwrite || insert.replace_into || insert.ignore || !insert.into;
        match &insert.on {
            Some(OnInsert::OnConflict(conflict)) if matches!(conflict.action, OnConflictAction::DoUpdate(_)) => {
                self.statements.insert("update");
            }
            Some(OnInsert::DuplicateKeyUpdate(_)) => self.unknown = true,
            _ => {}
        }
        self.returns(insert.returning.is_some());
    }

    /// What comes back from a statement that writes was read.
    fn returns(&mut self, returning: bool) {
        if returning {
            self.statements.insert("select");
        }
    }
}

impl Visitor for Found {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        match statement {
            Statement::Query(query) if matches!(&*query.body, SetExpr::Values(_)) => {
                _ = self.statements.insert("select")
            }
            Statement::Query(_) => {}
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => {
                self.statements.insert("update");
                self.returns(update.returning.is_some() || update.from.is_some());
            }
            Statement::Delete(delete) => {
                self.statements.insert("delete");
                self.returns(delete.returning.is_some() || delete.using.is_some());
            }
            Statement::Merge(_) => {
                self.statements.insert("merge");
                self.returns(true);
            }
            _ => self.unknown = true,
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if !query.locks.is_empty() {
            self.locks = true;
            self.statements.insert("select for update");
        }
        if matches!(&*query.body, SetExpr::Table(_)) {
            self.statements.insert("select");
        }
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.names.insert(folded(&cte.alias.name));
        }
        self.unknown |= query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.statements.insert("select");
        if select.into.is_some() {
            self.statements.insert("create table");
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => self.call(name),
            _ => {}
        }
        let alias = match factor {
            TableFactor::Table { alias, .. }
            | TableFactor::Derived { alias, .. }
            | TableFactor::TableFunction { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::NestedJoin { alias, .. } => alias,
            // XMLTABLE and JSON_TABLE read what they are given; the others are of other languages.
            TableFactor::XmlTable { alias, .. } | TableFactor::JsonTable { alias, .. } => alias,
            _ => {
                self.unknown = true;
                &None
            }
        };
        self.names.extend(alias.iter().map(|alias| folded(&alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => self.function(function),
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon, data_type: DataType::Custom(name, _), ..
            } => {
                self.name(name);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Schema and name as the server folds them; a database before them is passed over, as the server does.
fn parts(name: &ObjectName) -> Option<(Option<String>, String)> {
    let parts = name.0.iter().map(|part| part.as_ident().map(folded)).collect::<Option<Vec<String>>>()?;
    match parts.as_slice() {
        [.., schema, name] => Some((Some(schema.clone()), name.clone())),
        [name] => Some((None, name.clone())),
        [] => None,
    }
}

fn folded(ident: &sqlparser::ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

fn is_quoted(name: &ObjectName) -> bool {
    name.0.iter().any(|part| part.as_ident().is_none_or(|ident| ident.quote_style.is_some()))
}

fn plain_string(argument: &FunctionArg) -> Option<String> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            Value::Boolean(switch) => Some(switch.to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// ARRAY(subquery), ROW(values) and comparisons with many values.
const SYNTAX: [&str; 5] = ["all", "any", "array", "row", "some"];
