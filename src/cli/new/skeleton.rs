//! The files of a new function. What they say about the events comes from outside, so that a sampled topic can
//! say it as well as the built-in example.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a new function is made from.
#[derive(Debug, Clone)]
pub struct Skeleton {
    /// Its name.
    pub name: String,
    /// Where the SDK comes from.
    pub sdk: Sdk,
    /// The topic that it reads.
    pub topic: String,
    /// The format of that topic, as the manifest has it.
    pub format: String,
    /// The CloudEvents type of the events that it takes; `None`: it takes all events.
    pub event_type: Option<String>,
    /// The records of the topic have keys.
    pub is_keyed: bool,
    /// What the payload is.
    pub body: Body,
    /// Rust: the type `Input` (`Serialize` and `Deserialize`) and those that it needs; for JSON only.
    pub types: String,
    /// The JSON of an event that is an `Input`, on one line; for text the text as a JSON string, for bytes
    /// their base64 as one.
    pub example: String,
    /// The lines of `sample.jsonl`.
    pub sample: String,
}

/// What the payload of a new function's events is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// JSON.
    Json,
    /// UTF-8.
    Text,
    /// Anything.
    Bytes,
}

impl Body {
    /// The word for it in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
            Self::Bytes => "bytes",
        }
    }

    /// The files that depend on it.
    fn files(self) -> [(&'static str, &'static str); 2] {
        let (code, cases) = match self {
            Self::Json => (include_str!("template/json.rs.in"), include_str!("template/json.cases.yaml.in")),
            Self::Text => (include_str!("template/text.rs.in"), include_str!("template/text.cases.yaml.in")),
            Self::Bytes => {
                (include_str!("template/bytes.rs.in"), include_str!("template/bytes.cases.yaml.in"))
            }
        };
        [("src/lib.rs", code), ("cases.yaml", cases)]
    }
}

/// Where a new function takes `tidemill-sdk` from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sdk {
    /// A folder.
    Path(PathBuf),
    /// A git repository.
    Git(String),
    /// A version of a registry.
    Version(String),
}

impl Sdk {
    /// The value of the dependency in Cargo.toml.
    fn dependency(&self) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match self {
            Self::Path(path) => format!("{{ path = {} }}", quoted(&path.to_string_lossy())),
            Self::Git(url) => format!("{{ git = {} }}", quoted(url)),
            Self::Version(version) => quoted(version),
        }
    }
}

const FILES: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("template/Cargo.toml.in")),
    ("function.yaml", include_str!("template/function.yaml.in")),
    ("README.md", include_str!("template/README.md.in")),
    (".gitignore", include_str!("template/gitignore.in")),
];

impl Skeleton {
    /// The built-in example: orders with an item and a quantity.
    pub fn example(name: &str, sdk: Sdk) -> Self {
        Self {
            name: name.to_owned(),
            sdk,
            topic: format!("{name}-in"),
            format: "json".to_owned(),
            event_type: None,
            is_keyed: true,
            body: Body::Json,
            types: "/// What comes in.\n#[derive(Serialize, Deserialize)]\nstruct Input {\n    \
                    item: String,\n    quantity: u32,\n}"
                .to_owned(),
            example: r#"{"item": "tea", "quantity": 2}"#.to_owned(),
            sample: concat!(
                r#"{"key": "o-1", "value": {"item": "tea", "quantity": 2}}"#,
                "\n",
                r#"{"key": "o-2", "value": {"item": "bread", "quantity": 1}}"#,
                "\n",
                r#"{"key": "o-3", "value": {"item": "salt", "quantity": "a pinch"}}"#,
                "\n",
            )
            .to_owned(),
        }
    }

    /// Names and contents of the files.
    pub fn files(&self) -> Vec<(&'static str, String)> {
        let values = [
            ("{{name}}", self.name.clone()),
            ("{{library}}", self.name.replace('-', "_")),
            ("{{sdk}}", self.sdk.dependency()),
            ("{{topic}}", self.topic.clone()),
            ("{{source}}", self.source()),
            ("{{sink_format}}", if self.body == Body::Bytes { "bytes" } else { "json" }.to_owned()),
            ("{{key}}", if self.is_keyed { "k" } else { "null" }.to_owned()),
            ("{{attributes}}", self.attributes()),
            ("{{types}}", self.types.clone()),
            ("{{example}}", self.example.clone()),
            ("{{given}}", self.given()),
        ];
        let mut files: Vec<_> = FILES
            .iter()
            .chain(&self.body.files())
            .map(|(file, template)| (*file, fill(template, &values)))
            .collect();
        files.push(("sample.jsonl", self.sample.clone()));
        files
    }

    /// The source in the manifest.
    fn source(&self) -> String {
        let (topic, format) = (scalar(&self.topic), &self.format);
        let mut text = match &self.event_type {
            None => format!("    - {{ topic: {topic}, format: {format} }}\n"),
            Some(event_type) => format!(
                "    - topic: {topic}\n      format: {format}\n      filters:\n        \
                 - exact: {{ type: {} }}\n",
                scalar(event_type)
            ),
        };
        if !self.is_keyed {
            text.push_str("      # Its records have no key. One of the body: key: { fields: [/id] }\n");
        }
        text
    }

    /// The example as the value of a case, where a string stands for its characters.
    fn given(&self) -> String {
        let is_json_string = self.body == Body::Json && self.example.starts_with('"');
        if is_json_string {
            serde_json::Value::from(self.example.as_str()).to_string()
        } else {
            self.example.clone()
        }
    }

    /// What makes an event of a case a CloudEvent that the filter takes.
    fn attributes(&self) -> String {
        self.event_type.as_deref().map_or_else(String::new, |event_type| {
            format!("\n        attributes: {{ id: \"1\", source: /cases, type: {} }}", scalar(event_type))
        })
    }

    /// Writes the files into `folder`, which is made, or is there and empty.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        for (file, content) in self.files() {
            let path = folder.join(file);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, content)?;
        }
        Ok(())
    }
}

/// A string in YAML: as it is when it can be nothing else, in quotes otherwise.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// `template` with each placeholder replaced, in one pass: what is filled in is not looked at again.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find("{{") {
        text.push_str(&rest[..start]);
        rest = &rest[start..];
        match values.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, value)) => {
                text.push_str(value);
                rest = &rest[name.len()..];
            }
            None => {
                text.push_str("{{");
                rest = &rest[2..];
            }
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_is_not_filled_again() {
        let values = [("{{a}}", "{{b}}".to_owned()), ("{{b}}", "x".to_owned())];
        assert_eq!(fill("1 {{a}} {{b}} {{c}} {{", &values), "1 {{b}} x {{c}} {{");
    }

    #[test]
    fn no_placeholder_is_left_and_the_manifest_is_valid() {
        let skeleton = Skeleton::example("my-fn", Sdk::Version("1".to_owned()));
        for (file, content) in skeleton.files() {
            assert!(!content.contains("{{"), "{file}: {content}");
        }
        let manifest = skeleton.files().into_iter().find(|(file, _)| *file == "function.yaml").unwrap().1;
        let functions = crate::manifest::parse(Path::new("/f/function.yaml"), &manifest).unwrap();
        let handler = functions[0].handler.as_ref().unwrap();
        assert!(handler.plugin.ends_with(format!("libmy_fn{}", std::env::consts::DLL_SUFFIX)));
        assert_eq!(functions[0].sources[0].topic, "my-fn-in");
    }

    #[test]
    fn the_sdk_may_come_from_anywhere() {
        assert_eq!(Sdk::Path(PathBuf::from("/a \"b\"")).dependency(), r#"{ path = "/a \"b\"" }"#);
        assert_eq!(Sdk::Git("https://x/y".to_owned()).dependency(), r#"{ git = "https://x/y" }"#);
        assert_eq!(Sdk::Version("0.1".to_owned()).dependency(), r#""0.1""#);
    }
}
