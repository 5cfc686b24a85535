//! `*` and `?` in names and commands. A pattern always covers the whole text.

/// Whether `text` is of the form `pattern`: `*` stands for any characters, `?` for one. Takes at most `pattern × text`
/// steps.
pub fn matches(pattern: &str, text: &str) -> bool {
    covers(pattern, text, |_| true)
}

/// Like [`matches()`], for command lines: a wildcard never stands for a character with which a POSIX shell would begin
/// another command, so that `git-upload-pack *` does not allow `git-upload-pack x; reboot`.
///
/// Source: POSIX.1-2024, Shell Command Language, 2.2 Quoting and 2.10.2 Shell Grammar.
pub(crate) fn matches_command(pattern: &str, command: &str) -> bool {
    covers(pattern, command, |c| !c.is_control() && !SHELL_OPERATORS.contains(c))
}

/// Like [`matches()`], for paths: a wildcard never stands for a slash.
pub(crate) fn matches_path(pattern: &str, path: &str) -> bool {
    covers(pattern, path, |c| c != '/')
}

/// Backtracks to the last `*` only, which is enough and takes at most `pattern × text` steps.
fn covers(pattern: &str, text: &str, wild: impl Fn(char) -> bool) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut last_star = None;
    loop {
        let before = text.clone();
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                last_star = Some((pattern.clone(), before.clone()));
                text = before;
                continue;
            }
            (Some('?'), Some(found)) if wild(found) => continue,
            (Some(wanted), Some(found)) if wanted == found && wanted != '?' => continue,
            _ => {}
        }
        match last_star.take() {
            Some((after_star, mut covered)) => match covered.next() {
                Some(swallowed) if wild(swallowed) => {
                    last_star = Some((after_star.clone(), covered.clone()));
                    (pattern, text) = (after_star, covered);
                }
                _ => return false,
            },
            None => return false,
        }
    }
}

const SHELL_OPERATORS: &str = ";&|<>()`$\\!\n\r\0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_the_whole_text() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("LANG", "LANG", true),
            ("LANG", "LANGUAGE", false),
            ("LC_*", "LC_ALL", true),
            ("LC_*", "LC_", true),
            ("LC_*", "XLC_ALL", false),
            ("L?NG", "LANG", true),
            ("L?NG", "LNG", false),
            ("*a*b", "xxaxxb", true),
            ("*a*b", "xxaxxbc", false),
            ("a?", "a?", true),
            ("**", "x", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} against {text}");
        }
    }

    #[test]
    fn wildcard_in_a_command_never_covers_a_shell_operator() {
        for (command, expected) in [
            ("git-upload-pack '/srv/a.git'", true),
            ("git-upload-pack x; reboot", false),
            ("git-upload-pack $(reboot)", false),
            ("git-upload-pack x\nreboot", false),
            ("git-upload-pack x & reboot", false),
            ("git-upload-pack `reboot`", false),
            ("git-upload-pack x\0reboot", false),
            ("git-upload-pack x\rreboot", false),
            ("git-upload-pack x\u{1b}[2J", false),
            ("git-upload-pack x | sh", false),
            ("git-upload-pack x > /etc/passwd", false),
            ("git-upload-pack <(reboot)", false),
            ("git-upload-pack !!", false),
            ("git-upload-pack x\\\nreboot", false),
            (" git-upload-pack x", false),
            ("env git-upload-pack x", false),
            ("git-upload-pack", false),
            ("GIT-UPLOAD-PACK x", false),
        ] {
            assert_eq!(matches_command("git-upload-pack *", command), expected, "{command}");
        }
        assert!(matches_command("a; b", "a; b"), "an operator that the pattern spells out is meant");
        assert!(!matches_command("a; b", "a; b; c"), "and no other");
        assert!(matches_command("run ?", "run x") && !matches_command("run ?", "run ;"));
    }

    #[test]
    fn a_very_long_command_is_decided_soon() {
        let long = format!("git-upload-pack {}", "a".repeat(1 << 20));
        assert!(matches_command("git-upload-pack *", &long));
        assert!(!matches_command("git-upload-pack *", &format!("{long};reboot")));
        assert!(!matches_command("*a*a*a*a*a*b", &"a".repeat(20_000)));
    }
}
