//! What is wrong with a manifest: every finding of every file, each with its place.

use std::fmt;
use std::path::Path;

use serde::Serialize;

/// One finding. Displays as `file:line: path: message`, without the parts that it has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file, or the variable or flag (`TIDEMILL_METRICS`, `--brokers`).
    pub file: String,
    /// The line, from 1; `None` for a file as a whole.
    pub line: Option<usize>,
    /// Where in the document, as in `spec.sources[0].topic`; empty for the document as a whole.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Everything that was found; displays one finding a line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct Errors(pub Vec<Diagnostic>);

impl Errors {
    /// A single finding about a whole file.
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self(vec![Diagnostic {
            file: file.display().to_string(),
            line: None,
            path: String::new(),
            message: message.into(),
        }])
    }

    /// Nothing was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes another's findings.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}
