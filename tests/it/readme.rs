//! The documents are true: manifests and events in them load, the first function is compiled and
//! tested, every command that is listed exists, every link leads somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use tidemill::cli::Cli;
use tidemill::cli::sample::Sample;
use tidemill::manifest::{self, Overrides, Platform};

#[test]
fn the_manifests_in_the_documents_load() {
    let mut loaded = 0;
    for (file, text) in documents() {
        for block in blocks(&text, "yaml").filter(|block| block.contains("kind: Function")) {
            let functions = manifest::parse(Path::new(&file), &block);
            assert!(functions.is_ok(), "{file}: {}", functions.unwrap_err());
            loaded += 1;
        }
    }
    assert!(loaded > 0, "no manifest in any document");
}

#[test]
fn the_settings_in_the_documents_load() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, mut loaded) = (folder.path().join("tidemill.yaml"), 0);
    for (file, text) in documents() {
        for block in blocks(&text, "yaml").filter(|block| block.contains("kind: Platform")) {
            fs::write(&settings, block).unwrap();
            let platform = Platform::load(Some(&settings), [], &Overrides::default());
            assert!(platform.is_ok(), "{file}: {}", platform.unwrap_err());
            loaded += 1;
        }
    }
    assert!(loaded > 0, "no settings in any document");
}

#[test]
fn the_events_in_the_readme_can_be_fed() {
    let lines: Vec<String> = blocks(&read("README.md"), "json")
        .flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert!(!lines.is_empty());
    for line in lines {
        assert!(Sample::parse(&line).is_ok_and(|sample| sample.value.is_some()), "{line}");
    }
}

/// The files are tests of the SDK: compiled, and their own tests run.
#[test]
fn the_functions_of_the_readme_are_compiled_and_tested() {
    let shown: Vec<String> = blocks(&read("README.md"), "rust").collect();
    let files = ["first_function", "state_and_timers"];
    assert_eq!(shown, files.map(|file| read(&format!("functions/sdk/tests/{file}.rs"))));
}

#[test]
fn the_readme_lists_the_commands_that_there_are() {
    let readme = read("README.md");
    let listed: BTreeSet<&str> = readme
        .split("\n## ")
        .find(|section| section.starts_with("Commands"))
        .expect("a section called Commands")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let command = Cli::command();
    let verbs: BTreeSet<&str> = command.get_subcommands().map(|verb| verb.get_name()).collect();
    assert_eq!(listed, verbs);
}

#[test]
fn every_link_and_path_leads_somewhere() {
    let mut missing = Vec::new();
    for (file, text) in documents() {
        let folder = root().join(&file).parent().expect("a folder").to_owned();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            if !folder.join(link.split('#').next().unwrap_or_default()).exists() {
                missing.push(format!("{file}: ({link})"));
            }
        }
        // Paths from the root, in backticks; what is built has none.
        let parts = ["src/", "functions/", "tests/", "benches/", "deploy/", "schemas/"];
        let in_ticks = text.split('`').skip(1).step_by(2);
        for path in in_ticks.filter(|word| parts.iter().any(|part| word.starts_with(part))) {
            let is_path = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if is_path && !root().join(path).exists() && !folder.join(path).exists() {
                missing.push(format!("{file}: `{path}`"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The project's documents with their text.
fn documents() -> Vec<(String, String)> {
    let mut files: Vec<String> = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(str::to_owned).to_vec();
    for folder in ["benches", "deploy", "schemas"] {
        files.push(format!("{folder}/README.md"));
    }
    for entry in fs::read_dir(root().join("functions")).expect("functions/") {
        let file = format!("functions/{}/README.md", entry.unwrap().file_name().to_string_lossy());
        files.extend(Some(file).filter(|file| root().join(file).exists()));
    }
    files.into_iter().map(|file| (file.clone(), read(&file))).collect()
}

/// The code blocks of a language.
fn blocks<'a>(text: &'a str, language: &'a str) -> impl Iterator<Item = String> + 'a {
    text.split("\n```")
        .skip(1)
        .step_by(2)
        .filter_map(move |block| block.strip_prefix(language)?.strip_prefix('\n'))
        .map(|block| format!("{block}\n"))
}
