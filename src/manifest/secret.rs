//! Secrets by reference: `${env:NAME}` and `${file:path}`. The reference may be printed anywhere;
//! the secret itself is read when it is asked for, and kept by whoever asked.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

/// A text that may be a reference to a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    source: Origin,
}

#[derive(Clone, PartialEq, Eq)]
enum Origin {
    Env(String),
    File(String),
    Literal(String),
}

/// Why a secret cannot be had. Names the reference, never the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Neither kind of reference.
    #[error("{0:?} is no reference: write `${{env:NAME}}` or `${{file:path}}`, and nothing around it")]
    NoReference(String),
    /// The variable is not there.
    #[error("the variable {0} is not set, or is not UTF-8")]
    NoVariable(String),
    /// The file cannot be read.
    #[error("cannot read the secret's file {file}: {message}")]
    NoFile {
        /// The file.
        file: String,
        /// The system's message.
        message: String,
    },
}

impl Secret {
    /// A reference, or a literal text without any `${`. Whether a literal is good enough is for the
    /// caller to say: see [`Secret::is_literal`].
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        if !text.contains("${") {
            return Ok(Self { source: Origin::Literal(text.to_owned()) });
        }
        let inner = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        let source = match inner.and_then(|inner| inner.split_once(':')) {
            Some((_, name)) if name.is_empty() || name.contains(['$', '{', '}']) => None,
            Some(("env", name)) => Some(Origin::Env(name.to_owned())),
            Some(("file", path)) => Some(Origin::File(path.to_owned())),
            _ => None,
        };
        source.map(|source| Self { source }).ok_or_else(|| SecretError::NoReference(text.to_owned()))
    }

    /// The value of a variable.
    pub fn of_env(name: &str) -> Self {
        Self { source: Origin::Env(name.to_owned()) }
    }

    /// The text itself stands in the settings, it is no reference.
    pub fn is_literal(&self) -> bool {
        matches!(self.source, Origin::Literal(_))
    }

    /// Reads the secret; a file's last line end is not part of it.
    pub fn resolve(&self) -> Result<String, SecretError> {
        match &self.source {
            Origin::Literal(text) => Ok(text.clone()),
            Origin::Env(name) => std::env::var(name).map_err(|_| SecretError::NoVariable(name.clone())),
            Origin::File(path) => {
                let mut text = std::fs::read_to_string(path).map_err(|error| SecretError::NoFile {
                    file: path.clone(),
                    message: error.to_string(),
                })?;
                if text.ends_with('\n') {
                    text.pop();
                    if text.ends_with('\r') {
                        text.pop();
                    }
                }
                Ok(text)
            }
        }
    }
}

impl fmt::Display for Secret {
    /// The reference; `***` for a literal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Origin::Env(name) => write!(f, "${{env:{name}}}"),
            Origin::File(path) => write!(f, "${{file:{path}}}"),
            Origin::Literal(_) => f.write_str("***"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `config` with every text that is a reference replaced by its secret: what a handler's init gets.
pub fn resolve_config(config: &Value) -> Result<Value, SecretError> {
    Ok(match config {
        Value::String(text) if text.contains("${") => Value::String(Secret::parse(text)?.resolve()?),
        Value::Array(items) => Value::Array(items.iter().map(resolve_config).collect::<Result<_, _>>()?),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| Ok((key.clone(), resolve_config(value)?)))
                .collect::<Result<_, SecretError>>()?,
        ),
        other => other.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_whole_or_refused() {
        for text in ["${env:A}", "${file:/run/secrets/a b}"] {
            assert_eq!(Secret::parse(text).unwrap().to_string(), text);
        }
        for text in ["x${env:A}", "${env:A}x", "${env:}", "${vault:a}", "${env:A", "${A}", "${env:${env:A}}"]
        {
            assert_eq!(
                Secret::parse(text).unwrap_err().to_string(),
                format!(
                    "{text:?} is no reference: write `${{env:NAME}}` or `${{file:path}}`, and nothing around it"
                )
            );
        }
    }

    #[test]
    fn a_literal_is_never_printed() {
        let secret = Secret::parse("hunter2").unwrap();
        let json = serde_json::to_string(&secret).unwrap();
        assert_eq!(format!("{secret} {secret:?} {json}"), "*** *** \"***\"");
        assert_eq!(secret.resolve().unwrap(), "hunter2");
    }

    #[test]
    fn a_file_gives_its_text_without_the_last_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "a\nb\r\n").unwrap();
        let config = serde_json::json!({"list": [format!("${{file:{}}}", path.display()), 1], "x": "y"});
        assert_eq!(resolve_config(&config).unwrap(), serde_json::json!({"list": ["a\nb", 1], "x": "y"}));
        std::fs::remove_file(&path).unwrap();
        assert!(
            resolve_config(&config).unwrap_err().to_string().starts_with("cannot read the secret's file ")
        );
        let missing = Secret::of_env("TIDEMILL_TEST_NOT_SET").resolve().unwrap_err();
        assert_eq!(missing.to_string(), "the variable TIDEMILL_TEST_NOT_SET is not set, or is not UTF-8");
    }
}
