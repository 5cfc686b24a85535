//! From text to rules. Each section has a file; all of them report to one [`Reader`].

mod capability;
mod definitions;
mod network;
mod postgres;
mod selectors;
mod ssh;
mod tests;

use jsonc_parser::ast::Value;
use jsonc_parser::common::Range;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use crate::error::{Errors, Note};
use crate::reader::{Fields, Reader};
use crate::rules::Rules;
use definitions::Definitions;

/// Reads a policy: its rules and notes, or every mistake in it.
pub(crate) fn read(text: &str) -> Result<(Rules, Vec<Note>), Errors> {
    let mut reader = Reader::new(text);
    let mut rules = Rules::default();
    if let Some(value) = parse(&mut reader, text)
        && let Some(policy) = reader.fields(&value, "the policy", &known_sections())
    {
        let definitions = Definitions::read(&mut reader, &policy);
        network::read(&mut reader, &definitions, &policy, &mut rules);
        ssh::read(&mut reader, &definitions, &policy, &mut rules);
        tests::read(&mut reader, &definitions, &policy, &mut rules);
        note_meaningless(&mut reader, &policy);
        rules.tag_owners = definitions.tag_owners;
    }
    let notes = reader.finish()?;
    Ok((rules, notes))
}

fn parse<'t>(reader: &mut Reader<'t>, text: &'t str) -> Option<Value<'t>> {
    if text.len() > MAX_TEXT {
        let message = format!("the policy is {} bytes long", text.len());
        reader.error(Range::new(0, 0), message, format!("at most {MAX_TEXT} bytes"));
        return None;
    }
    match parse_to_ast(text, &CollectOptions::default(), &HUJSON) {
        Ok(parsed) => {
            if parsed.value.is_none() {
                reader.error(Range::new(0, 0), "the policy is empty", "an object: { … }");
            }
            parsed.value
        }
        Err(error) => {
            let message = format!("this is not HuJSON: {}", lower_first(&error.kind().to_string()));
            reader.error(error.range(), message, "JSON, in which comments and trailing commas are welcome");
            None
        }
    }
}

/// Sections of Tailscale's that are about its own service.
fn note_meaningless(reader: &mut Reader<'_>, policy: &Fields<'_>) {
    for (section, why) in MEANINGLESS {
        if let Some(entry) = policy.entry(section) {
            reader.note(entry.at, format!("{section:?} has no meaning here and is not read: {why}"));
        }
    }
}

fn known_sections() -> Vec<&'static str> {
    SECTIONS.iter().copied().chain(MEANINGLESS.iter().map(|(section, _)| *section)).collect()
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}

/// The standard is <https://github.com/tailscale/hujson>: JSON with comments and trailing commas, and nothing else.
const HUJSON: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// In bytes: some ten thousand rules. What is read below is linear in it, or has a bound of its own.
const MAX_TEXT: usize = 512 * 1024;

const SECTIONS: [&str; 11] = [
    "groups",
    "tagOwners",
    "hosts",
    "ipsets",
    "postures",
    "defaultSrcPosture",
    "acls",
    "grants",
    "ssh",
    "tests",
    "sshTests",
];

const MEANINGLESS: [(&str, &str); 6] = [
    ("nodeAttrs", "devices here have no attributes of Tailscale's client"),
    ("autoApprovers", "routes and exit nodes are not advertised here"),
    ("derpMap", "there are no relays here"),
    ("disableIPv4", "the tailnet's addresses are set in sallyport.toml"),
    ("OneCGNATRoute", "routes are set on the devices"),
    ("randomizeClientPort", "ports are set on the devices"),
];
