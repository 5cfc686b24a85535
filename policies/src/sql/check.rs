//! Needs against rights: the judgement, and what a refusal says.

use super::{Need, functions};
use crate::{Location, PostgresCapability};

/// What the judge says of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Judgement {
    /// It may be run.
    Allowed,
    /// It may not, and this is what the client is told.
    Refused(Refusal),
}

/// What an ErrorResponse for a refused text says, besides its severity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `42501`, insufficient_privilege.
    pub sqlstate: &'static str,
    /// One line: what is not allowed.
    pub message: String,
    /// What the policy would have to say.
    pub hint: String,
    /// What the capability allows instead.
    allows: String,
}

impl Refusal {
    /// Of something that no rule can allow; `capability` is what they allow instead.
    pub fn of_any_rule(capability: &PostgresCapability, message: String, hint: &str) -> Self {
        Self { sqlstate: INSUFFICIENT_PRIVILEGE, message, hint: hint.to_owned(), allows: allows(capability) }
    }

    /// The DETAIL: the rules that were asked, and what they allow.
    pub fn detail(&self, rules: &[Location]) -> String {
        let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
        self.detail_of(&rules)
    }

    /// The same, of rules as they were written down: `grants[3] (line 12, column 5)`.
    pub fn detail_of(&self, rules: &[String]) -> String {
        format!("the policy's {} {}", rules.join(" and "), self.allows)
    }
}

impl Judgement {
    /// Whether it may be run.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Judgement::Allowed)
    }
}

/// Allowed if every need is; else the first that is not says why.
pub(super) fn check(capability: &PostgresCapability, needs: &[Need]) -> Judgement {
    match needs.iter().find_map(|need| refusal(capability, need)) {
        Some((message, hint)) => {
            let allows = allows(capability);
            Judgement::Refused(Refusal { sqlstate: INSUFFICIENT_PRIVILEGE, message, hint, allows })
        }
        None => Judgement::Allowed,
    }
}

/// The message and the hint, where the need is not met.
fn refusal(capability: &PostgresCapability, need: &Need) -> Option<(String, String)> {
    let statements = &capability.statements;
    match need {
        Need::Statement(name) if !statements.allows(name) => {
            Some((format!("the policy does not allow {name} here"), ask_for_statement(name)))
        }
        Need::Statement(name) if capability.is_read_only() && crate::StatementRule::changes_data(name) => {
            Some((format!("the policy makes this session read-only, which {name} is not"), ASK_FOR_WRITES.to_owned()))
        }
        Need::Statement(_) => None,
        Need::Function(schema, name) => function_refusal(capability, schema.as_deref(), name),
        Need::Mention(schema, name) => {
            let schema = schema.as_deref();
            let counts = capability.functions.denies(schema, name) || functions::is_powerful(schema, name);
            if counts { function_refusal(capability, schema, name) } else { None }
        }
        Need::Procedure(schema, name) => procedure_refusal(capability, schema.as_deref(), name),
        Need::ReadWrite if capability.is_read_only() => {
            Some(("the policy makes this session read-only, and it stays so".to_owned(), ASK_FOR_WRITES.to_owned()))
        }
        Need::ReadWrite => None,
        Need::Opaque(what) if capability.read_only => Some((
            format!("the policy makes this session read-only, and {what} cannot be looked into"),
            ASK_FOR_WRITES.to_owned(),
        )),
        Need::Opaque(_) => None,
        Need::Unjudged(_) if capability.allows_everything() => None,
        Need::Unjudged(why) => {
            let hint = "write it more plainly, or ask for \"statements\": [\"any\"], without exceptions".to_owned();
            Some((format!("the policy allows only statements that can be judged, and this one cannot: {why}"), hint))
        }
    }
}

fn function_refusal(capability: &PostgresCapability, schema: Option<&str>, name: &str) -> Option<(String, String)> {
    let shown = schema.map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}"));
    let rule = &capability.functions;
    if rule.denies(schema, name) {
        let hint = format!("{shown:?} stands in the \"functions\" that the policy denies");
        return Some((format!("the policy does not allow the function {shown} here"), hint));
    }
    if rule.allows(schema, name) {
        return None;
    }
    match functions::class(schema, name) {
        functions::Class::Harmless => None,
        functions::Class::As(statement) => refusal(capability, &Need::Statement(statement)),
        functions::Class::Unknown if capability.statements.any => {
            refusal(capability, &Need::Opaque("a function that is not known"))
        }
        functions::Class::Unknown => {
            let hint = format!("ask for \"functions\": {{ \"allow\": [{shown:?}] }}");
            Some((format!("the policy does not allow the function {shown} here"), hint))
        }
    }
}

fn procedure_refusal(capability: &PostgresCapability, schema: Option<&str>, name: &str) -> Option<(String, String)> {
    let rule = &capability.functions;
    if rule.denies(schema, name) || rule.allows(schema, name) {
        return function_refusal(capability, schema, name);
    }
    refusal(capability, &Need::Statement("call")).or_else(|| refusal(capability, &Need::Opaque("a procedure")))
}

fn ask_for_statement(name: &str) -> String {
    let kind = crate::StatementRule::NAMES.iter().find(|(known, _)| *known == name).and_then(|(_, kind)| *kind);
    match kind {
        Some(kind) => format!("ask for \"statements\": [\"{}\"] or [{name:?}]", kind.as_str()),
        None => format!("ask for \"statements\": [{name:?}]"),
    }
}

fn allows(capability: &PostgresCapability) -> String {
    let read_only = if capability.is_read_only() { ", in a read-only session" } else { "" };
    format!("allows {}{read_only}", capability.statements)
}

const ASK_FOR_WRITES: &str = "ask for a role and a rule without \"readOnly\"";

/// PostgreSQL, Appendix A: insufficient_privilege.
const INSUFFICIENT_PRIVILEGE: &str = "42501";
