//! What `Policy::parse` has to say about a text: errors that refuse it, and notes that do not.

use std::fmt;

/// Everything that is wrong with a policy, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(pub(crate) Vec<PolicyError>);

impl Errors {
    /// Each mistake by itself.
    pub fn iter(&self) -> impl Iterator<Item = &PolicyError> {
        self.0.iter()
    }

    /// One line a mistake, `NAME:LINE:COLUMN: …`, as compilers and editors write it.
    pub fn display(&self, name: &str) -> String {
        self.0.iter().map(|error| format!("{name}:{error}\n")).collect()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.display("policy.hujson").trim_end())
    }
}

impl std::error::Error for Errors {}

/// One mistake: where it is, what was found and what was expected instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}; expected {expected}")]
pub struct PolicyError {
    /// Line in the text, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What was found.
    pub message: String,
    /// What would have been right.
    pub expected: String,
}

/// Something that is accepted for Tailscale's sake and has no meaning here, or less than it seems.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct Note {
    /// Line in the text, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is not as a reader may think.
    pub message: String,
}
