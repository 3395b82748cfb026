//! YAML text to documents: plain JSON values, with the line of every path kept beside them, so that
//! whatever finds a fault later can name its place.

use std::collections::BTreeMap;
use std::path::Path;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use serde_json::{Map, Number, Value};

use super::error::{Diagnostic, Errors};

/// Deeper nesting is refused; the deepest sensible filter stays far below.
const MAX_DEPTH: usize = 64;

/// One YAML document of a file, with what was found wrong in it so far.
#[derive(Debug)]
pub(super) struct Document {
    file: String,
    lines: BTreeMap<String, usize>,
    /// The content.
    pub(super) value: Value,
    /// What was found wrong.
    pub(super) errors: Errors,
}

impl Document {
    /// Every document of `text` that is not empty.
    pub(super) fn read(file: &Path, text: &str) -> Result<Vec<Self>, Errors> {
        let name = file.display().to_string();
        let nodes = MarkedYaml::load_from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
            Errors(vec![Diagnostic {
                file: name.clone(),
                line: Some(error.marker().line()),
                path: String::new(),
                message: match error.info() {
                    "duplicated key in mapping" => "the same key stands twice in one mapping".to_owned(),
                    info => format!("not valid YAML: {info}"),
                },
            }])
        })?;
        let mut documents = Vec::new();
        for node in &nodes {
            if matches!(node.data, YamlData::BadValue | YamlData::Value(Scalar::Null)) {
                continue;
            }
            let line = node.span.start.line();
            let mut document = Self {
                file: name.clone(),
                lines: BTreeMap::from([(String::new(), line)]),
                value: Value::Null,
                errors: Errors::default(),
            };
            document.value = document.convert(node, "", line, 0);
            documents.push(document);
        }
        Ok(documents)
    }

    /// The line of `path`, or of its nearest parent that stands in the file.
    pub(super) fn line(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some(line) = self.lines.get(path) {
                return *line;
            }
            path = path.rfind(['.', '[']).map_or("", |end| &path[..end]);
        }
    }

    /// Whether something stands at `path`.
    pub(super) fn has(&self, path: &str) -> bool {
        self.lines.contains_key(path)
    }

    /// Notes a finding at `path`, unless something at or below it was already found: one slip of
    /// the pen makes one message.
    pub(super) fn refuse(&mut self, path: &str, message: impl Into<String>) {
        if path.is_empty() || !self.is_refused(path) {
            self.refuse_also(path, message);
        }
    }

    /// Whether something at or below `path` was found.
    pub(super) fn is_refused(&self, path: &str) -> bool {
        self.errors.0.iter().any(|known| {
            known.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Notes a finding at `path`, whatever was found there before.
    pub(super) fn refuse_also(&mut self, path: &str, message: impl Into<String>) {
        let line = Some(self.line(path));
        let (path, message) = (path.to_owned(), message.into());
        self.errors.0.push(Diagnostic { file: self.file.clone(), line, path, message });
    }

    fn convert(&mut self, node: &MarkedYaml<'_>, path: &str, line: usize, depth: usize) -> Value {
        if depth > MAX_DEPTH {
            self.refuse(path, format!("nested deeper than {MAX_DEPTH} levels"));
            return Value::Null;
        }
        match &node.data {
            YamlData::Value(scalar) => self.scalar(scalar, path),
            YamlData::Sequence(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    let line = item.span.start.line().max(line);
                    self.lines.insert(path.clone(), line);
                    list.push(self.convert(item, &path, line, depth + 1));
                }
                Value::Array(list)
            }
            YamlData::Mapping(entries) => {
                let mut map = Map::new();
                for (key, item) in entries {
                    let line = key.span.start.line().max(line);
                    let YamlData::Value(Scalar::String(name)) = &key.data else {
                        self.lines.entry(path.to_owned()).or_insert(line);
                        self.refuse_also(path, "a key that is not text: put it in quotes");
                        continue;
                    };
                    let path = join(path, name);
                    self.lines.insert(path.clone(), line);
                    let value = self.convert(item, &path, line, depth + 1);
                    map.insert(name.to_string(), value);
                }
                Value::Object(map)
            }
            YamlData::Tagged(tag, _) => {
                self.refuse(path, format!("the YAML tag `{tag}` has no meaning here: remove it"));
                Value::Null
            }
            YamlData::Representation(..) | YamlData::Alias(_) | YamlData::BadValue => {
                self.refuse(path, "the value does not fit its YAML tag");
                Value::Null
            }
        }
    }

    fn scalar(&mut self, scalar: &Scalar<'_>, path: &str) -> Value {
        match scalar {
            Scalar::Null => Value::Null,
            Scalar::Boolean(value) => Value::Bool(*value),
            Scalar::Integer(value) => Value::from(*value),
            Scalar::FloatingPoint(value) => Number::from_f64(value.into_inner()).map_or_else(
                || {
                    self.refuse(path, "infinity and NaN are no numbers here");
                    Value::Null
                },
                Value::Number,
            ),
            Scalar::String(text) => Value::String(text.to_string()),
        }
    }
}

/// `parent.key`, or `parent["a.key"]` when the key is no plain word.
pub(super) fn join(parent: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    match (plain, parent.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{parent}.{key}"),
        (false, _) => format!("{parent}[{key:?}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Document> {
        Document::read(Path::new("f.yaml"), text).unwrap()
    }

    #[test]
    fn every_path_knows_its_line() {
        let document = &read("a: 1\nb:\n  - c: 2\n  - {d: 3,\n     e.f: 4}\n")[0];
        let lines = [("a", 1), ("b", 2), ("b[0]", 3), ("b[0].c", 3), ("b[1]", 4), ("b[1][\"e.f\"]", 5)];
        for (path, line) in lines {
            assert_eq!(document.line(path), line, "{path}");
        }
        assert_eq!(document.line("b[1].missing.deeper"), 4);
    }

    #[test]
    fn empty_documents_are_passed_over() {
        let documents = read("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n");
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[1].line("b"), 7);
    }

    #[test]
    fn anchors_are_resolved() {
        assert_eq!(read("a: &x {b: 1}\nc: *x\n")[0].value["c"]["b"], 1);
    }

    #[test]
    fn broken_yaml_names_its_line() {
        let cases = [
            ("a: 1\nb: 2\na: 3\n", "f.yaml:3: the same key stands twice in one mapping"),
            ("a: [1, 2\nb: 3\n", "f.yaml:2: not valid YAML: "),
        ];
        for (text, expected) in cases {
            let error = Document::read(Path::new("f.yaml"), text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        let document = &read("a: !x 1\nb: {1: 2}\nc: .inf\n")[0];
        assert_eq!(
            document.errors.to_string(),
            "f.yaml:1: a: the YAML tag `!x` has no meaning here: remove it\n\
             f.yaml:2: b: a key that is not text: put it in quotes\n\
             f.yaml:3: c: infinity and NaN are no numbers here"
        );
    }
}
