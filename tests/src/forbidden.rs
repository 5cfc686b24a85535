//! Paths to a target that skip the policy or the recording: programs in `tests/forbidden` that must not compile.
//!
//! Each names the one error code that it has to fail with. They are compiled by `rustc` against the library that these
//! tests were linked with; trybuild would build every dependency a second time and compare the compiler's prose.

use e2e::{Finished, run};
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn no_program_reaches_a_target_around_the_policy_or_the_recording() {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("forbidden");
    let mut tried = 0;
    for entry in std::fs::read_dir(programs).unwrap() {
        let program = entry.unwrap().path();
        let text = std::fs::read_to_string(&program).unwrap();
        let Some(code) = text.lines().find_map(|line| line.strip_prefix("//! error: ")) else { continue };
        let said = compile(&program);
        let found: Vec<_> = said.stderr.lines().filter(|line| line.starts_with("error[")).collect();
        let expected = format!("error[{code}]");
        assert!(
            !found.is_empty() && found.iter().all(|line| line.starts_with(&expected)),
            "{}: expected {expected} alone: {}",
            program.display(),
            said.stderr
        );
        tried += 1;
    }
    assert!(tried >= 10, "{tried} programs were tried");
}

#[test]
fn the_intended_path_compiles() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("forbidden/allowed.rs");
    let _compiled = compile(&program).ok();
}

fn compile(program: &Path) -> Finished {
    let here = std::env::current_exe().unwrap();
    let libraries = here.parent().unwrap();
    let out = tempfile::tempdir().unwrap();
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata", "--out-dir"]).arg(out.path());
    rustc.arg("-L").arg(format!("dependency={}", libraries.display()));
    rustc.arg("--extern").arg(format!("sallyport={}", library(libraries).display())).arg(program);
    run(rustc, b"")
}

/// The newest build of the library: the one that these tests were built with.
fn library(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let ours = files.filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("libsallyport-") && name.ends_with(".rlib")
    });
    ours.max_by_key(|path| path.metadata().unwrap().modified().unwrap())
        .expect("cargo built the library for these tests")
}
