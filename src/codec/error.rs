//! Why bytes are not what their format promises.

use thiserror::Error;

use crate::model::{Class, DeadLetterReason};

/// Why a record could not be decoded. Always poison: the same bytes will never decode.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A text value that is not UTF-8.
    #[error("the value is not UTF-8: byte {at} begins no character")]
    NotUtf8 {
        /// The first bad byte, counted from 0.
        at: usize,
    },
    /// A JSON value that does not parse.
    #[error("the value is not JSON: {reason}")]
    NotJson {
        /// The parser's message, with line and column.
        reason: String,
    },
    /// The `content-type` header is not text.
    #[error("the header `content-type` is not UTF-8")]
    ContentType,
    /// Batch mode.
    #[error(
        "`{media_type}` is a batch, which the Kafka binding of CloudEvents does not know: write one event a record"
    )]
    Batch {
        /// The record's content type.
        media_type: String,
    },
    /// A structured event in another format than JSON.
    #[error("`{media_type}` is an event format that is not supported: use application/cloudevents+json")]
    EventFormat {
        /// The record's content type.
        media_type: String,
    },
    /// A structured event whose record has the null value.
    #[error("a structured CloudEvent must have a value, this record has none")]
    NoValue,
    /// A structured event that is no JSON object.
    #[error("the structured CloudEvent is not a JSON object: {reason}")]
    NotObject {
        /// The parser's message, with line and column.
        reason: String,
    },
    /// A member of a structured event that comes twice.
    #[error("the structured CloudEvent has `{member}` twice")]
    Twice {
        /// Its name.
        member: String,
    },
    /// Both ways of carrying data at once.
    #[error("the structured CloudEvent has both `data` and `data_base64`: only one may be present")]
    TwoData,
    /// `data_base64` that does not decode.
    #[error("`data_base64` of the structured CloudEvent is not Base64: {reason}")]
    Base64 {
        /// The decoder's message.
        reason: String,
    },
    /// An attribute that breaks the rules of CloudEvents.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
}

impl DecodeError {
    /// What the engine does about it.
    pub fn class(&self) -> Class {
        Class::Poison
    }

    /// The reason of the dead letter.
    pub fn reason(&self) -> DeadLetterReason {
        DeadLetterReason::Malformed
    }
}

/// How a CloudEvents attribute breaks the rules (CloudEvents 1.0, "Context Attributes").
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AttributeError {
    /// A required attribute that is not there.
    #[error("the required CloudEvents attribute `{attribute}` is missing")]
    Missing {
        /// `specversion`, `id`, `source` or `type`.
        attribute: &'static str,
    },
    /// A required attribute that is the empty string.
    #[error("the required CloudEvents attribute `{attribute}` is empty")]
    Empty {
        /// `id`, `source` or `type`.
        attribute: &'static str,
    },
    /// A name with other characters than a-z and 0-9, an empty one, or `data`.
    #[error("`{name}` cannot name a CloudEvents attribute: use a-z and 0-9, and not `data`")]
    Name {
        /// The name.
        name: String,
    },
    /// A header value that is not UTF-8.
    #[error("the CloudEvents attribute `{attribute}` is not UTF-8")]
    NotUtf8 {
        /// Its name.
        attribute: String,
    },
    /// A version other than 1.0.
    #[error("CloudEvents `specversion` `{found}` is not supported: only 1.0 is")]
    SpecVersion {
        /// What it says.
        found: String,
    },
    /// A source that cannot be a URI reference.
    #[error(
        "the CloudEvents attribute `source` is no URI reference: `{found}` has blanks or control characters"
    )]
    Source {
        /// What it says.
        found: String,
    },
    /// A time that is not RFC 3339.
    #[error("the CloudEvents attribute `time` is no RFC 3339 time: `{found}`")]
    Time {
        /// What it says.
        found: String,
    },
    /// A JSON value of a type that the attribute cannot have.
    #[error("the CloudEvents attribute `{attribute}` must be {expected}, not `{found}`")]
    Type {
        /// Its name.
        attribute: String,
        /// What it must be.
        expected: &'static str,
        /// The JSON text, shortened.
        found: String,
    },
    /// An attribute of an output that a handler gave the null value.
    #[error("the CloudEvents attribute `{attribute}` has no value")]
    Null {
        /// Its name.
        attribute: String,
    },
}
