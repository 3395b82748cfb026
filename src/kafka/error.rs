//! What can go wrong between this process and the brokers, sorted by what the worker does about it.

use rdkafka::error::{IsError, KafkaError, RDKafkaErrorCode};
use rdkafka_sys as sys;

use crate::model::Class;

/// The broker's and the client's error codes.
pub type Code = RDKafkaErrorCode;

/// An error of the Kafka client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A setting that librdkafka refuses.
    #[error("kafka client setting refused: {0}")]
    Config(String),
    /// The brokers did not answer in time, or are away.
    #[error("kafka is not reachable: {0}")]
    Away(String),
    /// The broker refuses this client: rights, authentication, an unsupported feature.
    #[error("kafka refused: {0}")]
    Refused(String),
    /// This member's commit was refused because the group moved on: abort, rewind, go on.
    #[error("the group has moved on: {0}")]
    Stale(String),
    /// Another producer with the same transactional id took over, or this one's transaction timed out.
    #[error("the producer was fenced: {0}")]
    Fenced(String),
    /// The transaction must be aborted.
    #[error("the transaction must be aborted: {0}")]
    Abort(String),
    /// It is not known whether the transaction was committed.
    #[error("the outcome of the commit is unknown: {0}")]
    Unknown(String),
    /// The producer or consumer cannot be used any more: make a new one.
    #[error("the kafka client failed for good: {0}")]
    Fatal(String),
    /// The brokers, or this group, do not take members by the protocol of KIP-848.
    #[error("no members by the protocol `consumer` (KIP-848): {0}; set groupProtocol to `auto` or `classic`")]
    NoProtocol(String),
    /// A committed position that cannot be read.
    #[error("partition {topic}/{partition}: {reason}")]
    Position {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What the broker says of it.
        reason: String,
    },
}

impl Error {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Config(_) | Self::Refused(_) | Self::NoProtocol(_) => Class::Fatal,
            _ => Class::Transient,
        }
    }

    /// Sorts an error of a call that is no part of a transaction.
    pub(super) fn of_call(error: &KafkaError) -> Self {
        let text = error.to_string();
        match error {
            KafkaError::ClientConfig(_, reason, name, value) => {
                let shown = if name.contains("password") || name.contains("key") { "***" } else { value };
                Self::Config(format!("{name}={shown}: {reason}"))
            }
            KafkaError::ClientCreation(reason) => Self::Config(reason.clone()),
            _ => error
                .rdkafka_error_code()
                .map_or_else(|| Self::Away(text.clone()), |code| Self::of_code(code, &text)),
        }
    }

    pub(super) fn of_code(code: RDKafkaErrorCode, text: &str) -> Self {
        use RDKafkaErrorCode as C;
        let text = text.to_owned();
        match code {
            C::TopicAuthorizationFailed
            | C::GroupAuthorizationFailed
            | C::ClusterAuthorizationFailed
            | C::TransactionalIdAuthorizationFailed
            | C::SaslAuthenticationFailed
            | C::UnsupportedSASLMechanism
            | C::Authentication
            | C::UnsupportedFeature
            | C::InvalidConfig
            | C::InvalidArgument => Self::Refused(text),
            C::IllegalGeneration
            | C::UnknownMemberId
            | C::StaleMemberEpoch
            | C::FencedMemberEpoch
            | C::RebalanceInProgress
            | C::FencedInstanceId
            | C::AssignmentLost => Self::Stale(text),
            C::Fenced | C::ProducerFenced | C::InvalidProducerEpoch | C::InvalidProducerIdMapping => {
                Self::Fenced(text)
            }
            C::Fatal => Self::Fatal(text),
            _ => Self::Away(text),
        }
    }

    /// Sorts an error of a transactional call. An error with none of librdkafka's three marks is to
    /// be treated as fatal (librdkafka INTRODUCTION.md, "Transactional producer").
    ///
    /// # Safety
    /// `error` is null or a live `rd_kafka_error_t`; it is destroyed here.
    pub(super) unsafe fn of_transaction(error: *mut sys::rd_kafka_error_t) -> Result<(), Self> {
        if error.is_null() {
            return Ok(());
        }
        // SAFETY: the caller passes ownership of a live error.
        let (code, text, retriable, abort) = unsafe {
            let code = sys::rd_kafka_error_code(error);
            let text =
                std::ffi::CStr::from_ptr(sys::rd_kafka_error_string(error)).to_string_lossy().into_owned();
            let marks = (
                sys::rd_kafka_error_is_retriable(error) != 0,
                sys::rd_kafka_error_txn_requires_abort(error) != 0,
            );
            sys::rd_kafka_error_destroy(error);
            (code, text, marks.0, marks.1)
        };
        debug_assert!(code.is_error());
        let sorted = Self::of_code(code.into(), &text);
        Err(match sorted {
            Self::Stale(_) | Self::Fenced(_) | Self::Refused(_) => sorted,
            _ if abort => Self::Abort(text),
            _ if retriable => Self::Away(text),
            _ => Self::Fatal(text),
        })
    }
}
