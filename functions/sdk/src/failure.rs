//! How a call ends.

use std::fmt;
use std::time::Duration;

/// What a handler returns.
pub type Outcome = Result<Done, Failure>;

/// A call that went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Handled; what was emitted and done to the key is written.
    Ok,
    /// Deliberately not handled; nothing is written, the event, window or timer counts as skipped.
    Skip,
}

/// A call that did not go well; what it emitted and did to its key is dropped.
///
/// ```
/// use std::time::Duration;
/// use tidemill_sdk::Failure;
///
/// Failure::retry("the rate service does not answer");
/// Failure::retry_after("rate limited", Duration::from_secs(30));
/// Failure::reject("a ride without a rider").code("no-rider");
/// Failure::stop("the ledger and the state disagree");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    kind: FailureKind,
    message: String,
}

/// What is to be done about a failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureKind {
    /// Try again, after this pause if there is one, else as the manifest says.
    Retry(Option<Duration>),
    /// Never try again: dead letter, with the code if there is one.
    Reject(Option<String>),
    /// Stop the function; the call is made again when it starts.
    Stop,
    /// The handler panicked. Only tests see this: it is made by the code that catches the panic.
    Panic,
}

impl Failure {
    /// It may go well later: try again, with the manifest's pauses and attempts.
    pub fn retry(message: impl fmt::Display) -> Self {
        Self { kind: FailureKind::Retry(None), message: message.to_string() }
    }

    /// It may go well after `pause`: try again then. A pause is counted in whole milliseconds, at least one.
    pub fn retry_after(message: impl fmt::Display, pause: Duration) -> Self {
        Self { kind: FailureKind::Retry(Some(pause)), message: message.to_string() }
    }

    /// It will never go well: dead letter.
    pub fn reject(message: impl fmt::Display) -> Self {
        Self { kind: FailureKind::Reject(None), message: message.to_string() }
    }

    /// [`Failure::reject`] with a short word for programs that read dead letters.
    pub fn reject_with_code(code: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::reject(message).code(code)
    }

    /// Nothing can go on: the function stops, and the call is made again when it starts. For what an operator has to put
    /// right, and no other event would fare better with; nothing is lost meanwhile.
    pub fn stop(message: impl fmt::Display) -> Self {
        Self { kind: FailureKind::Stop, message: message.to_string() }
    }

    /// Adds a short word for programs that read dead letters. Other failures have none and stay as they are.
    #[must_use]
    pub fn code(mut self, code: impl Into<String>) -> Self {
        if let FailureKind::Reject(slot) = &mut self.kind {
            *slot = Some(code.into());
        }
        self
    }

    /// What is to be done.
    pub fn kind(&self) -> &FailureKind {
        &self.kind
    }

    /// Why, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn panic(message: String) -> Self {
        Self { kind: FailureKind::Panic, message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    /// Files and networks come back: a retry.
    fn from(error: std::io::Error) -> Self {
        Self::retry(error)
    }
}

macro_rules! decode_errors_reject {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for Failure {
            /// The same bytes will never decode: a reject.
            fn from(error: $error) -> Self {
                Self::reject(error)
            }
        }
    )+};
}

decode_errors_reject!(
    serde_json::Error,
    std::str::Utf8Error,
    std::string::FromUtf8Error,
    std::num::ParseIntError,
    std::num::ParseFloatError,
    std::num::TryFromIntError,
);

/// Says of any other error what it means for the event.
///
/// ```
/// use tidemill_sdk::{Failure, OrFail};
///
/// fn lookup(id: &str) -> Result<u32, std::net::AddrParseError> {
///     id.parse::<std::net::Ipv4Addr>().map(u32::from)
/// }
///
/// fn handle(id: &str) -> Result<u32, Failure> {
///     Ok(lookup(id).or_reject()?)
/// }
/// assert!(handle("10.0.0.1").is_ok());
/// assert_eq!(handle("x").unwrap_err().message(), "invalid IPv4 address syntax");
/// ```
pub trait OrFail<T> {
    /// The error may pass: [`Failure::retry`].
    fn or_retry(self) -> Result<T, Failure>;

    /// The error stays: [`Failure::reject`].
    fn or_reject(self) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> OrFail<T> for Result<T, E> {
    fn or_retry(self) -> Result<T, Failure> {
        self.map_err(Failure::retry)
    }

    fn or_reject(self) -> Result<T, Failure> {
        self.map_err(Failure::reject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_mark_sorts_errors_by_what_they_mean() {
        fn decode() -> Result<(), Failure> {
            serde_json::from_str::<u8>("x")?;
            Ok(())
        }
        fn read() -> Result<(), Failure> {
            Err(std::io::Error::other("reset"))?;
            Ok(())
        }
        assert_eq!(*decode().unwrap_err().kind(), FailureKind::Reject(None));
        assert_eq!(*read().unwrap_err().kind(), FailureKind::Retry(None));
        assert_eq!(*Err::<(), _>("x").or_retry().unwrap_err().kind(), FailureKind::Retry(None));
    }

    #[test]
    fn a_code_belongs_to_rejects_alone() {
        assert_eq!(*Failure::reject("x").code("c").kind(), FailureKind::Reject(Some("c".into())));
        assert_eq!(*Failure::reject_with_code("c", "x").kind(), FailureKind::Reject(Some("c".into())));
        assert_eq!(*Failure::retry("x").code("c").kind(), FailureKind::Retry(None));
    }
}
