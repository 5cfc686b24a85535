//! Whole files and what is said of them: each `bad/*.hujson` with its errors, each `accepted/*.hujson` with its notes.
//!
//! `UPDATE=1 cargo test -p sallyport-policies --test texts` writes the expectations anew; read the difference.

#![expect(clippy::unwrap_used, reason = "helpers of the tests, outside a test function")]

use std::fs;
use std::path::{Path, PathBuf};

use sallyport_policies::{Inventory, Policy};

#[test]
fn bad_policies_are_refused_with_every_mistake_in_them() {
    for file in texts("bad") {
        let found = match Policy::parse(&fs::read_to_string(&file).unwrap()) {
            Ok(_) => "no error\n".to_owned(),
            Err(errors) => errors.display("policy.hujson"),
        };
        compare(&file, &found);
    }
}

#[test]
fn files_of_tailscales_are_accepted_with_notes_and_pass_their_tests() {
    for file in texts("accepted") {
        let parsed = Policy::parse(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(parsed.policy.run_tests(&Inventory::default()), [], "{}", file.display());
        let notes: String = parsed.notes.iter().map(|note| format!("policy.hujson:{note}\n")).collect();
        compare(&file, &notes);
    }
}

fn texts(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "hujson"));
    files.sort();
    assert!(!files.is_empty());
    files
}

fn compare(file: &Path, found: &str) {
    let expectation = file.with_extension("txt");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&expectation, found).unwrap();
    }
    let expected = fs::read_to_string(&expectation).unwrap_or_default();
    assert_eq!(found, expected, "{}: UPDATE=1 writes it anew", file.display());
}
