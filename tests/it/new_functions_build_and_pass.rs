//! `tidemill new` makes a crate that builds and whose tests pass; `tidemill build` makes a plugin of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn tidemill(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .current_dir(folder)
        .args(args)
        .envs(offline())
        .output()
        .unwrap()
}

/// The new crate's dependencies are those of this workspace: they are there already, and compiled.
fn offline() -> [(&'static str, PathBuf); 2] {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    [("CARGO_NET_OFFLINE", PathBuf::from("true")), ("CARGO_TARGET_DIR", target.to_owned())]
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_new_function_builds_passes_its_tests_and_loads() {
    let folder = tempfile::tempdir().unwrap();
    let made = tidemill(folder.path(), &["new", "order-notes"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(text(&made.stdout).contains("functions/sdk"), "{}", text(&made.stdout));
    let crate_dir = folder.path().join("order-notes");

    let tests =
        Command::new(env!("CARGO")).arg("test").current_dir(&crate_dir).envs(offline()).output().unwrap();
    assert!(tests.status.success(), "{}{}", text(&tests.stdout), text(&tests.stderr));
    assert!(text(&tests.stdout).contains("2 passed"), "{}", text(&tests.stdout));

    let cases = tidemill(&crate_dir, &["test", "."]);
    assert!(cases.status.success(), "{}{}", text(&cases.stdout), text(&cases.stderr));

    let built = tidemill(&crate_dir, &["build", ".", "--dev", "--output", "json"]);
    assert!(built.status.success(), "{}", text(&built.stderr));
    let built: Value = serde_json::from_slice(&built.stdout).unwrap();
    assert_eq!(built["plugins"][0]["handlers"], serde_json::json!(["order-notes"]));
    let library = format!("liborder_notes{}", std::env::consts::DLL_SUFFIX);
    assert!(crate_dir.join(library).is_file());

    // Again, over the file that is there; and a second `new` does not write over the work of the first.
    assert!(tidemill(&crate_dir, &["build", "function.yaml", "--dev"]).status.success());
    let again = tidemill(folder.path(), &["new", "order-notes"]);
    assert!(!again.status.success() && text(&again.stderr).contains("not empty"), "{}", text(&again.stderr));
}

#[test]
fn a_crate_that_does_not_compile_leaves_the_plugin_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    assert!(tidemill(folder.path(), &["new", "broken-one", "--path", "."]).status.success());
    let library = folder.path().join(format!("libbroken_one{}", std::env::consts::DLL_SUFFIX));
    std::fs::write(&library, "the old one").unwrap();
    std::fs::write(folder.path().join("src/lib.rs"), "no Rust").unwrap();
    let built = tidemill(folder.path(), &["build", ".", "--dev"]);
    assert_eq!(built.status.code(), Some(1));
    assert!(text(&built.stderr).contains("could not build"), "{}", text(&built.stderr));
    assert_eq!(std::fs::read_to_string(&library).unwrap(), "the old one");
}
