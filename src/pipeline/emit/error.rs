//! Why an output cannot be written as its sink asks.

use thiserror::Error;

use crate::codec::AttributeError;
use crate::model::DeadLetterReason;

/// Always poison: the handler would make the same output again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EmitError {
    /// An output addressed to a sink that the manifest does not have.
    #[error("an output is addressed to the sink `{sink}`, which is not one of: {known}")]
    UnknownSink {
        /// The address.
        sink: String,
        /// The function's sinks.
        known: String,
    },
    /// A value for a `text` sink that is no text.
    #[error("an output to the text sink `{sink}` is not UTF-8: byte {at} begins no character")]
    NotUtf8 {
        /// The sink.
        sink: String,
        /// The first bad byte, counted from 0.
        at: usize,
    },
    /// A value for a `json` sink that does not parse.
    #[error("an output to the json sink `{sink}` is not JSON: {reason}")]
    NotJson {
        /// The sink.
        sink: String,
        /// The parser's message, with line and column.
        reason: String,
    },
    /// A `content-type` header that is no text.
    #[error("an output to the sink `{sink}` has a `content-type` that is not UTF-8")]
    ContentType {
        /// The sink.
        sink: String,
    },
    /// A CloudEvent inside a CloudEvent.
    #[error(
        "an output to the cloudevents sink `{sink}` is a `{media_type}` already: use a sink of format auto"
    )]
    Nested {
        /// The sink.
        sink: String,
        /// The output's content type.
        media_type: String,
    },
    /// A `ce_` header that is no valid attribute.
    #[error("an output to the sink `{sink}` is no CloudEvent: {rule}")]
    Attribute {
        /// The sink.
        sink: String,
        /// What it breaks.
        rule: AttributeError,
    },
    /// A key that cannot be an attribute.
    #[error("an output to the sink `{sink}` has a key that is not UTF-8, so it cannot be its `partitionkey`")]
    PartitionKey {
        /// The sink.
        sink: String,
    },
}

impl EmitError {
    /// The reason of the dead letter.
    pub fn reason(&self) -> DeadLetterReason {
        DeadLetterReason::BadOutput
    }
}
