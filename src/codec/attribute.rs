//! The rules of CloudEvents attributes, the same for events that come in and for those that go out.

use super::error::AttributeError;
use super::rfc3339::Timestamp;

/// The prefix of attributes in Kafka headers (Kafka protocol binding, section 3.2.3.1).
pub const PREFIX: &str = "ce_";

/// The attributes without which nothing is a CloudEvent.
pub const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// Lower-case letters and digits, at least one, and not `data`.
pub fn check_name(name: &str) -> Result<(), AttributeError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if name.is_empty() || name == "data" || !name.bytes().all(allowed) {
        return Err(AttributeError::Name { name: name.to_owned() });
    }
    Ok(())
}

/// Whether `value` can be the canonical string of the attribute `name`. Optional strings may be
/// empty: the specification forbids that, but what is lost by it is nobody's event.
pub fn check_value(name: &str, value: &str) -> Result<(), AttributeError> {
    check_bytes(name, value.as_bytes()).map(drop)
}

/// The attribute in a header `ce_<name>`: its name, and its text.
pub fn check_header(name: &str, value: &[u8]) -> Result<(), AttributeError> {
    // Most text is ASCII, which is found out in a fraction of the time that UTF-8 takes.
    if !value.is_ascii() && std::str::from_utf8(value).is_err() {
        check_name(name)?;
        return Err(AttributeError::NotUtf8 { attribute: name.to_owned() });
    }
    // The names of attributes with rules of their own are good names.
    if check_bytes(name, value)? { Ok(()) } else { check_name(name) }
}

/// Checks the UTF-8 text `value`; whether the attribute has rules of its own.
#[inline]
fn check_bytes(name: &str, value: &[u8]) -> Result<bool, AttributeError> {
    let text = || String::from_utf8_lossy(value).into_owned();
    let not_empty =
        |attribute| if value.is_empty() { Err(AttributeError::Empty { attribute }) } else { Ok(true) };
    match name {
        "specversion" if value != b"1.0" => Err(AttributeError::SpecVersion { found: text() }),
        "specversion" => Ok(true),
        "id" => not_empty("id"),
        "type" => not_empty("type"),
        "source" if value.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) => {
            Err(AttributeError::Source { found: text() })
        }
        "source" => not_empty("source"),
        "time" if Timestamp::parse(value).is_none() => Err(AttributeError::Time { found: text() }),
        "time" => Ok(true),
        _ => Ok(false),
    }
}
