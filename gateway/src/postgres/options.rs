//! The settings that a start-up packet asks for, one by one: those of `options` as well (libpq's PGOPTIONS).

/// What a start-up packet may say beside settings.
const NO_SETTINGS: [&str; 4] = ["user", "database", "options", "replication"];

/// The settings among `parameters`. `None` when `options` holds something else than settings: a switch of the server's own.
pub(super) fn settings(parameters: &[(String, String)]) -> Option<Vec<(String, String)>> {
    let mut settings = Vec::new();
    for (name, value) in parameters {
        match name.as_str() {
            "options" => settings.extend(of_options(value)?),
            // Extensions of the protocol, which the server knows or says that it does not.
            name if name.starts_with("_pq_.") => {}
            name if NO_SETTINGS.contains(&name) => {}
            name => settings.push((name.to_owned(), value.clone())),
        }
    }
    Some(settings)
}

/// The settings of `-c name=value`, `-cname=value` and `--name=value`.
fn of_options(options: &str) -> Option<Vec<(String, String)>> {
    let mut words = split(options).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") => words.next()?,
            Some(setting) => setting.to_owned(),
            None => return None,
        };
        let (name, value) = setting.split_once('=')?;
        // As the server has it: a hyphen stands for an underscore.
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Some(settings)
}

/// Words at white space; a backslash takes the next character for what it is (`pg_split_opts`).
fn split(options: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut characters = options.chars();
    while let Some(c) = characters.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(characters.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &str) -> Option<Vec<(String, String)>> {
        settings(&[("user".to_owned(), "x".to_owned()), ("options".to_owned(), options.to_owned())])
    }

    #[test]
    fn finds_each_setting_however_it_is_written() {
        let expected = [("role".to_owned(), "admin".to_owned()), ("search_path".to_owned(), "a b".to_owned())];
        for options in ["-c role=admin -c search_path=a\\ b", "-crole=admin  --search-path=a\\ b "] {
            assert_eq!(of(options).unwrap(), expected, "{options}");
        }
        assert_eq!(of("").unwrap(), []);
        for options in ["-d 5", "-c", "-c role", "role=admin", "-S 100"] {
            assert_eq!(of(options), None, "{options}");
        }
    }
}
