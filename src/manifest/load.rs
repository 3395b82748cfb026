//! Manifests from files and folders.

use std::path::{Path, PathBuf};

use super::document::Document;
use super::error::{Diagnostic, Errors};
use super::schema::function_schema;
use super::spec::FunctionManifest;
use super::{resolve, strict};
use crate::model::{Function, FunctionName};

/// What every document of ours begins its `apiVersion` with.
const API: &str = "tidemill.dev/";

/// The functions of files and folders, in that order.
///
/// A file's documents must all be of `kind: Function`. Of a folder the `*.yaml` and `*.yml` files in
/// it are read, and those of the folders in it (one level), by name; hidden ones and documents whose
/// `apiVersion` is not ours are passed over, as are platform settings. A file called `function.yaml`
/// is always taken for a manifest. Nothing is returned unless everything is valid: the error holds
/// every finding of every file.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Function>, Errors> {
    let mut loaded = Vec::new();
    let mut errors = Errors::default();
    for path in paths {
        match load_path(path) {
            Ok(functions) => loaded.extend(functions),
            Err(found) => errors.extend(found),
        }
    }
    errors.extend(clash_errors(&loaded));
    if errors.is_empty() {
        Ok(loaded.into_iter().map(|loaded| loaded.function).collect())
    } else {
        Err(errors)
    }
}

/// What files and folders hold, as far as it is valid.
#[derive(Debug, Default)]
pub struct Survey {
    /// Functions whose manifests are valid, by themselves and beside each other.
    pub functions: Vec<Function>,
    /// What is not valid.
    pub faults: Vec<Fault>,
}

/// Why functions are missing from a [`Survey`].
#[derive(Debug)]
pub struct Fault {
    /// Two that contradict each other; empty: whatever stands at `place`.
    pub names: Vec<FunctionName>,
    /// A file, or a folder that cannot be read.
    pub place: PathBuf,
    /// What is wrong.
    pub errors: Errors,
}

impl Fault {
    /// Because of this it is not known what becomes of `function`.
    pub fn concerns(&self, function: &Function) -> bool {
        if self.names.is_empty() {
            function.file.starts_with(&self.place)
        } else {
            self.names.contains(&function.name)
        }
    }
}

/// The same as [`load`], file by file: what is wrong with one does not hide the others. A file that is not there holds
/// nothing, and neither does an empty folder.
pub fn survey(paths: &[PathBuf]) -> Survey {
    let mut loaded = Vec::new();
    let mut faults = Vec::new();
    for path in paths {
        let files = files(path).unwrap_or_else(|errors| {
            faults.push(Fault { names: Vec::new(), place: path.clone(), errors });
            Vec::new()
        });
        for (file, named) in files {
            match load_file(&file, named) {
                Ok(functions) => loaded.extend(functions),
                Err(errors) => faults.push(Fault { names: Vec::new(), place: file, errors }),
            }
        }
    }
    for Clash { names, finding } in clashes(&loaded) {
        loaded.retain(|loaded| !names.contains(&loaded.function.name));
        let place = PathBuf::from(&finding.file);
        faults.push(Fault { names: names.into(), place, errors: Errors(vec![finding]) });
    }
    Survey { functions: loaded.into_iter().map(|loaded| loaded.function).collect(), faults }
}

/// The files that a survey of `paths` reads, as far as they can be found.
pub fn manifest_files(paths: &[PathBuf]) -> Vec<PathBuf> {
    let files = paths.iter().filter_map(|path| files(path).ok()).flatten();
    files.map(|(file, _)| file).collect()
}

/// The manifests at `path`, and whether each is asked for by its name.
fn files(path: &Path) -> Result<Vec<(PathBuf, bool)>, Errors> {
    if path.is_dir() {
        let named = |file: &Path| file.file_name().is_some_and(|name| name == "function.yaml");
        return Ok(manifests(path)?.into_iter().map(|file| (file.clone(), named(&file))).collect());
    }
    let is_gone = is_yaml(path) && path.try_exists().is_ok_and(|is_there| !is_there);
    Ok(if is_gone { Vec::new() } else { vec![(path.to_owned(), true)] })
}

/// The functions in `text`, as if it were the content of `file`.
pub fn parse(file: &Path, text: &str) -> Result<Vec<Function>, Errors> {
    let loaded = read(file, text, true)?;
    let errors = clash_errors(&loaded);
    if errors.is_empty() {
        Ok(loaded.into_iter().map(|loaded| loaded.function).collect())
    } else {
        Err(errors)
    }
}

struct Loaded {
    function: Function,
    name_line: usize,
    group_line: usize,
}

fn load_path(path: &Path) -> Result<Vec<Loaded>, Errors> {
    if !path.is_dir() {
        return load_file(path, true);
    }
    let mut loaded = Vec::new();
    let mut errors = Errors::default();
    for (file, named) in files(path)? {
        match load_file(&file, named) {
            Ok(functions) => loaded.extend(functions),
            Err(found) => errors.extend(found),
        }
    }
    if loaded.is_empty() && errors.is_empty() {
        errors = Errors::of_file(path, "no function in this folder: make one with `tidemill new`");
    }
    if errors.is_empty() { Ok(loaded) } else { Err(errors) }
}

fn manifests(folder: &Path) -> Result<Vec<PathBuf>, Errors> {
    let mut files = Vec::new();
    for entry in entries(folder)? {
        if entry.is_dir() {
            files.extend(entries(&entry)?.into_iter().filter(|inner| !inner.is_dir()));
        } else {
            files.push(entry);
        }
    }
    files.retain(|file| is_yaml(file));
    Ok(files)
}

fn is_yaml(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// What is in a folder, by name, without hidden things.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Errors> {
    let unreadable = |error: std::io::Error| Errors::of_file(folder, format!("cannot read: {error}"));
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn load_file(file: &Path, named: bool) -> Result<Vec<Loaded>, Errors> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Errors::of_file(file, format!("cannot read: {error}")))?;
    // Other YAML in the folder need not even be of YAML 1.2.
    if !named && !text.contains(API) {
        return Ok(Vec::new());
    }
    read(file, &text, named)
}

/// The functions in `text`. `named`: it was asked for by name, so every document must be one.
fn read(file: &Path, text: &str, named: bool) -> Result<Vec<Loaded>, Errors> {
    let documents = Document::read(file, text)?;
    if documents.is_empty() && named {
        return Err(Errors::of_file(file, "holds no document: it is empty"));
    }
    let mut loaded = Vec::new();
    let mut errors = Errors::default();
    for mut document in documents {
        let ours = document.value["apiVersion"].as_str().is_some_and(|version| version.starts_with(API));
        let platform = document.value["kind"] == "Platform";
        if !named && (!ours || platform) {
            continue;
        }
        if platform {
            document.refuse("kind", "these are the platform's settings: give the file with --config");
        } else {
            loaded.extend(function(&mut document, file));
        }
        errors.extend(document.errors);
    }
    errors.0.sort_by_key(|diagnostic| diagnostic.line);
    if errors.is_empty() { Ok(loaded) } else { Err(errors) }
}

fn function(document: &mut Document, file: &Path) -> Option<Loaded> {
    strict::check(document, function_schema());
    let value = std::mem::take(&mut document.value);
    match serde_json::from_value::<FunctionManifest>(value) {
        Ok(manifest) => {
            let function = resolve::resolve(document, manifest, file);
            let (name_line, group_line) = (document.line("metadata.name"), document.line("spec.group"));
            document.errors.is_empty().then_some(Loaded { function, name_line, group_line })
        }
        Err(error) => {
            document.refuse("", error.to_string());
            None
        }
    }
}

/// Two functions that cannot run in one process.
struct Clash {
    names: [FunctionName; 2],
    finding: Diagnostic,
}

fn clash_errors(loaded: &[Loaded]) -> Errors {
    Errors(clashes(loaded).into_iter().map(|clash| clash.finding).collect())
}

/// Rules between functions that run in one process.
fn clashes(loaded: &[Loaded]) -> Vec<Clash> {
    let mut clashes = Vec::new();
    for (index, later) in loaded.iter().enumerate() {
        let function = &later.function;
        let mut refuse = |other: &Function, line, path: &str, message| {
            let file = function.file.display().to_string();
            let finding = Diagnostic { file, line: Some(line), path: path.to_owned(), message };
            clashes.push(Clash { names: [other.name.clone(), function.name.clone()], finding });
        };
        let before = &loaded[..index];
        if let Some(other) = before.iter().find(|other| other.function.name == function.name) {
            let place = other.function.file.display();
            let message = format!("{} stands in {place}:{} too", function.name, other.name_line);
            refuse(&other.function, later.name_line, "metadata.name", message);
        } else if let Some(other) = before.iter().find(|other| other.function.group == function.group) {
            let message = format!("{} uses the group {:?} too", other.function.name, function.group);
            refuse(&other.function, later.group_line, "spec.group", message);
        }
    }
    clashes
}
