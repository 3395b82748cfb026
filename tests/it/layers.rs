//! The layers hold: a module uses those below it, never one beside or above. The table is the one in
//! `src/lib.rs`; what may be named where (the Kafka client, `unsafe`, sleeping, files) stands here.
//!
//! Sources are read as tokens, without comments and strings, so that a path is found wherever it stands:
//! in a `use` with braces, in a signature, in a body, in a test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Names that belong to parts: (name, the modules of `src/` that may say it, why).
const HOMES: [(&str, &[&str], &str); 7] = [
    ("rdkafka", &["kafka"], "the client's types stop at the kafka module"),
    ("rdkafka_sys", &["kafka"], "the client's types stop at the kafka module"),
    ("libloading", &["plugin"], "only the plugin module loads code"),
    ("tidemill_abi", &["plugin"], "the engine speaks its own types, the plugin module the contract's"),
    ("kube", &["runtime"], "Kubernetes' types stop at the target that speaks with it"),
    ("k8s_openapi", &["runtime"], "Kubernetes' types stop at the target that speaks with it"),
    ("anyhow", &["runtime", "cli"], "a part has an error type of its own; only the edge collects them"),
];

/// Parts that compute and nothing else, and what they may not name.
const PURE: [&str; 4] = ["model", "codec", "window", "pipeline"];
const IMPURE: [&str; 9] = [
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "tokio",
    "async",
];

/// The one file of `scale` that asks a cluster; the others compute too.
const SAMPLES: &str = "src/scale/sample.rs";

/// Where raw memory is touched, and why that cannot be avoided: librdkafka's and the plugins' C interfaces.
const UNSAFE: [&str; 4] = ["src/kafka/", "src/plugin/", "functions/abi/", "functions/sdk/"];

/// The one place of all tests that waits by sleeping, between two looks at a condition.
const SLEEPS: &str = "tests/kafka/harness/wait.rs";

#[test]
fn a_module_uses_only_those_below_it() {
    let ranks = layer_table();
    let mut faults = Vec::new();
    for source in sources("src") {
        for path in source.paths() {
            let Some(target) = path.module.filter(|target| ranks.contains_key(target)) else {
                if let Some(what) = path.root_escape {
                    faults.push(format!("{}:{}: {what}", source.name, path.line));
                }
                continue;
            };
            let may = match source.part() {
                // The roots: `lib.rs` declares the modules, `main.rs` runs the command line.
                "lib" => true,
                "main" => target == "cli",
                part => target == part || ranks[&target] < ranks[part],
            };
            if !may {
                faults.push(format!(
                    "{}:{}: `{}` uses `{target}`, which is not below it",
                    source.name,
                    path.line,
                    source.part()
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_table_names_every_module_and_nothing_else() {
    let ranks = layer_table();
    let lib = &sources("src").into_iter().find(|source| source.name == "src/lib.rs").expect("src/lib.rs");
    let declared: BTreeSet<&str> = lib
        .tokens
        .windows(2)
        .filter(|pair| pair[0].text == "mod")
        .map(|pair| pair[1].text.as_str())
        .collect();
    assert_eq!(declared, ranks.keys().map(String::as_str).collect());
    let parts: BTreeSet<String> = sources("src").iter().map(|source| source.part().to_owned()).collect();
    let expected = ranks.keys().cloned().chain(["lib".to_owned(), "main".to_owned()]).collect();
    assert_eq!(parts, expected, "a part is a folder of src/ that the table knows");
}

#[test]
fn what_belongs_to_a_part_is_named_only_there() {
    let mut faults = Vec::new();
    for source in sources("src") {
        for (name, homes, why) in HOMES {
            if homes.contains(&source.part()) || source.part() == "main" {
                continue;
            }
            for line in source.lines_of(&[name]) {
                faults.push(format!("{}:{line}: names `{name}`: {why}", source.name));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_pure_parts_do_no_io_and_take_no_lock() {
    let mut faults = Vec::new();
    let is_pure = |source: &&Source| {
        PURE.contains(&source.part()) || (source.part() == "scale" && source.name != SAMPLES)
    };
    for source in sources("src").iter().filter(is_pure) {
        let named = source.names();
        for what in IMPURE {
            for (_, line) in named.iter().filter(|(name, _)| is_within(name, what)) {
                faults.push(format!("{}:{line}: uses `{what}`; the parts around it do that", source.name));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn unsafe_code_stays_where_c_is_spoken() {
    let mut faults = Vec::new();
    for source in sources("src").into_iter().chain(sources("functions")) {
        if UNSAFE.iter().any(|folder| source.name.starts_with(folder)) {
            continue;
        }
        for line in source.lines_of(&["unsafe"]) {
            faults.push(format!("{}:{line}: `unsafe`", source.name));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn nobody_sleeps_and_hopes() {
    let mut faults = Vec::new();
    for source in ["src", "functions", "tests"].into_iter().flat_map(sources) {
        for (_, line) in source.names().iter().filter(|(name, _)| is_within(name, "std::thread::sleep")) {
            faults.push((source.name.clone(), *line));
        }
        for line in source.lines_of(&["thread", "::", "sleep"]) {
            faults.push((source.name.clone(), line));
        }
    }
    // The handler under trial takes long when a scenario asks for it.
    faults.retain(|(file, _)| file != SLEEPS && file != "tests/plugins/trial/src/lib.rs");
    assert!(faults.is_empty(), "wait for a condition with a deadline instead: {faults:?}");
}

#[test]
fn files_are_named_after_what_they_hold_and_open_with_it() {
    let mut faults = Vec::new();
    for source in ["src", "functions", "tests", "benches"].into_iter().flat_map(sources) {
        let vague = ["util", "utils", "helper", "helpers", "common", "misc", "manager", "managers"];
        let names = source.name.split(['/', '.', '_']).collect::<Vec<_>>();
        if let Some(word) = vague.iter().find(|word| names.contains(word)) {
            faults.push(format!("{}: `{word}` says nothing of what is there", source.name));
        }
        if !source.text.starts_with("//!") {
            faults.push(format!("{}: does not open with what it is for (`//!`)", source.name));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Every path is found, and nothing that only looks like one.
#[test]
fn paths_are_read_as_the_compiler_reads_them() {
    let text = r##"
        //! Links to crate::comment::X.
        use crate::{kafka::{self, Error}, model as plain, r#worker};
        /* crate::block /* crate::nested */ crate::still */
        pub(in crate::observe) fn f<'a>(x: &'a crate::cli::Cli) -> char { '"' }
        const S: &str = "crate::string"; const R: &str = r#"crate::raw " "#; const B: &[u8] = b"crate::bytes\"";
        mod tests { use super::super::super::codec::A; use super::super::Fine; mod deep { use super::super::here; } }
        fn g() { super::super::runtime::run(); self::local(); tidemill::manifest::parse(); }
        use super::{own, super::pipeline};
    "##;
    let source = Source::new("src/plugin/load.rs", text);
    let found: Vec<String> = source
        .paths()
        .into_iter()
        .filter_map(|path| path.module.or(path.root_escape.map(str::to_owned)))
        .collect();
    let expected = [
        "kafka", "kafka", "model", "worker", "observe", "cli", "codec", "plugin", "plugin", "runtime",
        "plugin", "manifest", "plugin", "pipeline",
    ];
    assert_eq!(found, expected);
    let root = Source::new("src/plugin/load.rs", "use crate as all; use super::super::*; use crate::*;");
    assert!(root.paths().iter().all(|path| path.module.is_none() && path.root_escape.is_some()));
}

/// `name` is `what` or something in it.
fn is_within(name: &str, what: &str) -> bool {
    name.strip_prefix(what).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The modules of the table in `src/lib.rs` with their row, the lowest first.
fn layer_table() -> BTreeMap<String, usize> {
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | ")).skip(1);
    let ranks: BTreeMap<String, usize> = rows
        .filter_map(|row| row.split(" | ").nth(1))
        .enumerate()
        .flat_map(|(rank, modules)| {
            modules.split(", ").map(move |module| (module.trim_matches(['[', ']', '`']).to_owned(), rank))
        })
        .collect();
    assert!(ranks.len() > 5, "no layer table in src/lib.rs: {ranks:?}");
    ranks
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust sources below a folder of the project, in order.
fn sources(folder: &str) -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder of the project") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root()).expect("below the root").to_str().expect("UTF-8").to_owned();
            Source::new(&name, &fs::read_to_string(&path).expect("a source"))
        })
        .collect()
}

struct Source {
    name: String,
    text: String,
    tokens: Vec<Token>,
}

struct Token {
    text: String,
    line: usize,
}

/// A path that leads to a module of the crate.
struct Found {
    line: usize,
    /// The top-level module that it leads into.
    module: Option<String>,
    /// It leads to the crate's root instead, from where everything could be reached.
    root_escape: Option<&'static str>,
}

impl Source {
    fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.to_owned(), tokens: tokens(text) }
    }

    /// The top-level module that this file belongs to.
    fn part(&self) -> &str {
        let below = self.name.strip_prefix("src/").unwrap_or(&self.name);
        below.split('/').next().map_or("", |part| part.trim_end_matches(".rs"))
    }

    /// The module that this file is: `src/kafka/mod.rs` is `[kafka]`.
    fn module(&self) -> Vec<String> {
        let below = self.name.strip_prefix("src/").unwrap_or(&self.name).trim_end_matches(".rs");
        below.split('/').filter(|name| !["mod", "lib", "main"].contains(name)).map(str::to_owned).collect()
    }

    /// The lines where these tokens follow each other.
    fn lines_of(&self, words: &[&str]) -> Vec<usize> {
        let is_there = |window: &&[Token]| window.iter().zip(words).all(|(token, word)| token.text == *word);
        self.tokens.windows(words.len()).filter(is_there).map(|window| window[0].line).collect()
    }

    /// All paths from `crate`, `self`, `super` and the crate's own name.
    fn paths(&self) -> Vec<Found> {
        let mut found = Vec::new();
        for (path, line, scope) in self.expanded() {
            let mut here = match path.first().map(String::as_str) {
                Some("crate" | "tidemill") => Vec::new(),
                Some("self" | "super") => scope,
                _ => continue,
            };
            // `pub(crate)` and `crate` alone at the end of a visibility name no module.
            if path.len() == 1 {
                continue;
            }
            for segment in &path {
                match segment.as_str() {
                    "crate" | "tidemill" if here.is_empty() => {}
                    "self" => {}
                    "super" => {
                        here.pop();
                    }
                    name => here.push(name.to_owned()),
                }
            }
            let is_root = here.first().is_none_or(|first| first == "*" || first == "as");
            found.push(Found {
                line,
                module: here.into_iter().next().filter(|_| !is_root),
                root_escape: is_root.then_some("takes the whole crate: name the module"),
            });
        }
        found
    }

    /// All paths whatever they begin with, joined: `std::fs::File`.
    fn names(&self) -> Vec<(String, usize)> {
        self.expanded().into_iter().map(|(path, line, _)| (path.join("::"), line)).collect()
    }

    /// Every path with its braces multiplied out, its line, and the module in whose body it stands.
    fn expanded(&self) -> Vec<(Vec<String>, usize, Vec<String>)> {
        let (mut found, mut scope, mut depth) = (Vec::new(), vec![(0, self.module())], 0);
        let mut at = 0;
        while let Some(token) = self.tokens.get(at) {
            let word = |ahead: usize| self.tokens.get(at + ahead).map_or("", |token| token.text.as_str());
            match token.text.as_str() {
                "mod" if word(2) == "{" => {
                    let mut inner = scope.last().map(|(_, module)| module.clone()).unwrap_or_default();
                    inner.push(word(1).to_owned());
                    depth += 1;
                    scope.push((depth, inner));
                    at += 3;
                    continue;
                }
                "{" => depth += 1,
                "}" => {
                    if scope.len() > 1 && scope.last().is_some_and(|(opened, _)| *opened == depth) {
                        scope.pop();
                    }
                    depth -= 1;
                }
                text if is_name(text) => {
                    let mut ends = Vec::new();
                    let next = self.path(at, &[], &mut ends);
                    let module = scope.last().map(|(_, module)| module.clone()).unwrap_or_default();
                    found.extend(ends.into_iter().map(|(path, line)| (path, line, module.clone())));
                    at = next;
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        found
    }

    /// Reads the path that begins at `at`, behind `prefix`; returns where it ends.
    fn path(&self, mut at: usize, prefix: &[String], ends: &mut Vec<(Vec<String>, usize)>) -> usize {
        let mut path = prefix.to_vec();
        let text = |at: usize| self.tokens.get(at).map_or("", |token| token.text.as_str());
        loop {
            let line = self.tokens.get(at).map_or(0, |token| token.line);
            match text(at) {
                "{" => {
                    at += 1;
                    while !matches!(text(at), "}" | "") {
                        at = self.path(at, &path, ends);
                        if text(at) == "as" {
                            at += 2;
                        }
                        if text(at) == "," {
                            at += 1;
                        }
                    }
                    return at + 1;
                }
                name => path.push(name.to_owned()),
            }
            at += 1;
            let goes_on = is_name(text(at + 1)) || matches!(text(at + 1), "{" | "*");
            if text(at) != "::" || !goes_on {
                if text(at) == "as" && path.len() == 1 {
                    path.push("as".to_owned());
                }
                ends.push((path, line));
                return at;
            }
            at += 1;
        }
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Names, `::` and single marks; comments, strings and characters are left out.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    let is = |at: usize, expected: &str| {
        let rest = chars.get(at..).unwrap_or_default();
        rest.len() >= expected.len() && expected.chars().zip(rest).all(|(a, b)| a == *b)
    };
    while at < chars.len() {
        let from = at;
        let mut word = None;
        if is(at, "//") {
            at += chars[at..].iter().take_while(|c| **c != '\n').count();
        } else if is(at, "/*") {
            let mut depth = 0;
            loop {
                let step = match (is(at, "/*"), is(at, "*/")) {
                    (true, _) => (depth += 1, 2).1,
                    (_, true) => (depth -= 1, 2).1,
                    _ => 1,
                };
                at += step;
                if depth == 0 || at >= chars.len() {
                    break;
                }
            }
        } else if let Some(end) = string_end(&chars, at) {
            at = end;
        } else if chars[at] == '\'' && (is(at + 2, "'") || is(at + 1, "\\")) {
            at += 2 + chars[at + 2..].iter().take_while(|c| **c != '\'').count() + 1;
        } else if chars[at] == '_' || chars[at].is_alphabetic() {
            at += if is(at, "r#") { 2 } else { 0 };
            let name: String = chars[at..].iter().take_while(|c| **c == '_' || c.is_alphanumeric()).collect();
            at += name.chars().count();
            word = Some(name);
        } else if is(at, "::") {
            at += 2;
            word = Some("::".to_owned());
        } else {
            word = Some(chars[at].to_string()).filter(|mark| !mark.trim().is_empty());
            at += 1;
        }
        if let Some(text) = word {
            tokens.push(Token { text, line });
        }
        line += chars[from..at.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// The end of the string that begins at `at`, if one does: plain, raw, byte or C.
fn string_end(chars: &[char], at: usize) -> Option<usize> {
    let mut quote = at;
    while quote < at + 2 && matches!(chars.get(quote), Some('b' | 'c' | 'r')) {
        quote += 1;
    }
    let is_raw = quote > at && chars[quote - 1] == 'r';
    let hashes = if is_raw { chars[quote..].iter().take_while(|c| **c == '#').count() } else { 0 };
    quote += hashes;
    if chars.get(quote) != Some(&'"') {
        return None;
    }
    let mut end = quote + 1;
    while let Some(c) = chars.get(end) {
        match c {
            '\\' if !is_raw => end += 1,
            '"' if chars[end + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes => {
                return Some(end + 1 + hashes);
            }
            _ => {}
        }
        end += 1;
    }
    Some(end)
}
