//! YAML files of other kinds than manifests, checked as strictly: the type says what they hold, every
//! finding names its place.

use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::document::Document;
use super::error::Errors;
use super::{schema, strict};

/// The one document of a YAML file, with the lines of its paths kept for those who look closer.
#[derive(Debug)]
pub struct Typed<T> {
    /// What it holds.
    pub value: T,
    document: Document,
}

impl<T: DeserializeOwned + JsonSchema> Typed<T> {
    /// Reads `text`, the content of `file`.
    pub fn read(file: &Path, text: &str) -> Result<Self, Errors> {
        let mut documents = Document::read(file, text)?.into_iter();
        let (Some(mut document), None) = (documents.next(), documents.next()) else {
            return Err(Errors::of_file(file, "must hold one YAML document"));
        };
        strict::check(&mut document, &schema::make::<T>());
        match serde_json::from_value(std::mem::take(&mut document.value)) {
            Ok(value) if document.errors.is_empty() => Ok(Self { value, document }),
            Err(error) if document.errors.is_empty() => {
                document.refuse("", error.to_string());
                Err(document.errors)
            }
            _ => Err(document.errors),
        }
    }

    /// The line of `path`, such as `cases[2].name`.
    pub fn line(&self, path: &str) -> usize {
        self.document.line(path)
    }

    /// Notes a finding at `path`.
    pub fn refuse(&mut self, path: &str, message: impl Into<String>) {
        self.document.refuse(path, message);
    }

    /// What was found, if anything.
    pub fn errors(&self) -> &Errors {
        &self.document.errors
    }
}
