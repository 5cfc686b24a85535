//! The `users` of an `ssh` rule: who a caller may become on the target.

/// One entry of `users`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Account {
    /// This account and no other, letter by letter.
    Exactly(String),
    /// `autogroup:nonroot`: any ordinary account that cannot be root by another spelling.
    NonRoot,
    /// `localpart:*@example.com`: the part of the caller's login name before the `@`, for callers of this domain.
    LocalPart {
        /// The domain, without the `@`.
        domain: String,
    },
}

impl Account {
    /// Reads an entry of `users`, or says what is expected instead.
    pub(crate) fn parse(text: &str) -> Result<Account, &'static str> {
        if text == "autogroup:nonroot" {
            return Ok(Account::NonRoot);
        }
        if let Some(pattern) = text.strip_prefix("localpart:") {
            let domain = pattern.strip_prefix("*@").filter(|domain| is_domain(domain));
            return domain
                .map(|domain| Account::LocalPart { domain: domain.to_owned() })
                .ok_or("\"localpart:*@\" and a domain, such as \"localpart:*@example.com\"");
        }
        if text == "*" {
            return Err(
                "account names; for every account but root write \"autogroup:nonroot\", and \"root\" beside it \
                        where root is meant too",
            );
        }
        if text.contains(':') || !is_possible(text) {
            return Err("an account name, \"autogroup:nonroot\" or \"localpart:*@example.com\"");
        }
        Ok(Account::Exactly(text.to_owned()))
    }

    /// Whether `user` may become `account` by this entry.
    ///
    /// INVARIANT: never true of an account that is not possible; [`Account::parse`] lets no such name in.
    pub(crate) fn allows(&self, user: Option<&str>, account: &str) -> bool {
        match self {
            Account::Exactly(name) => name == account,
            Account::NonRoot => is_ordinary(account),
            Account::LocalPart { domain } => user
                .and_then(|user| user.split_once('@'))
                .is_some_and(|(local, of)| of.eq_ignore_ascii_case(domain) && local == account && is_ordinary(account)),
        }
    }
}

/// Whether any rule may give this account at all: a name that a log, a certificate's principal and `getpwnam` read alike.
pub(crate) fn is_possible(account: &str) -> bool {
    (1..=MAX_ACCOUNT).contains(&account.len())
        && !account.starts_with('-')
        && account.chars().all(|c| c.is_alphanumeric() || "._-+@$\\".contains(c))
}

/// Whether this account is surely not root, whatever the target's `getpwnam` makes of it: numbers (`0`, `00`, `+0`, `0x0`),
/// capitals (`ROOT`, on directories that ignore case), domains (`EXAMPLE\root`, `root@example.com`), white space and
/// look-alikes of other scripts are all left out. A rule may still name such an account exactly.
fn is_ordinary(account: &str) -> bool {
    is_possible(account)
        && account.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && account.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        && !SUPERUSERS.iter().any(|name| account.eq_ignore_ascii_case(name))
}

pub(crate) fn is_domain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
}

/// The names of uid 0 in stock systems: `toor` is root's second name on the BSDs.
const SUPERUSERS: [&str; 2] = ["root", "toor"];

/// In bytes; useradd(8) allows 256.
const MAX_ACCOUNT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonroot_refuses_every_spelling_of_root() {
        for account in [
            "root",
            "ROOT",
            "Root",
            "toor",
            "0",
            "+0",
            "-0",
            "00",
            "0x0",
            "",
            " root",
            "root ",
            "root\0",
            "root\n",
            "\troot",
            "EXAMPLE\\root",
            "root@example.com",
            "ｒｏｏｔ",
            "rооt",
            "1000",
            "-u0",
            "root$",
            "*",
            "../root",
            " 0",
            "0 ",
            "00000000000000000000",
            "-1",
            "4294967296",
            "0,root",
            "root,alice",
            "alice,root",
            "root:x",
            "root;id",
            "root\u{200b}",
            "root\u{0}alice",
            "#0",
            "%0",
            "~root",
            "r%6fot",
        ] {
            assert!(!Account::NonRoot.allows(None, account), "{account:?}");
        }
        for account in ["ubuntu", "_apt", "alice.b", "web-1", "Administrator", "rooty"] {
            assert!(Account::NonRoot.allows(None, account), "{account:?}");
        }
    }

    #[test]
    fn localpart_is_the_callers_own_name_in_that_domain() {
        let own = Account::parse("localpart:*@example.com").unwrap();
        for (user, account, expected) in [
            (Some("alice@example.com"), "alice", true),
            (Some("alice@EXAMPLE.com"), "alice", true),
            (Some("alice@example.com"), "bob", false),
            (Some("alice@example.com"), "Alice", false),
            (Some("alice@example.com.evil.test"), "alice", false),
            (Some("alice@evil.test@example.com"), "alice", false),
            (Some("root@example.com"), "root", false),
            (None, "alice", false),
        ] {
            assert_eq!(own.allows(user, account), expected, "{user:?} as {account}");
        }
    }

    #[test]
    fn refuses_entries_that_are_no_account() {
        for text in ["", "*", "autogroup:member", "localpart:alice@example.com", "localpart:*@", "a b", "-l", "a\nb"] {
            assert!(Account::parse(text).is_err(), "{text:?}");
        }
    }
}
