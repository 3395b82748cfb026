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
    match name {
        "specversion" if value != "1.0" => Err(AttributeError::SpecVersion { found: value.to_owned() }),
        "id" if value.is_empty() => Err(AttributeError::Empty { attribute: "id" }),
        "type" if value.is_empty() => Err(AttributeError::Empty { attribute: "type" }),
        "source" if value.is_empty() => Err(AttributeError::Empty { attribute: "source" }),
        "source" if value.bytes().any(|byte| byte <= b' ' || byte == 0x7f) => {
            Err(AttributeError::Source { found: value.to_owned() })
        }
        "time" if Timestamp::parse(value).is_none() => Err(AttributeError::Time { found: value.to_owned() }),
        _ => Ok(()),
    }
}

/// The attribute in a header `ce_<name>`: its text, checked.
pub fn check_header<'a>(name: &str, value: &'a [u8]) -> Result<&'a str, AttributeError> {
    check_name(name)?;
    let text =
        std::str::from_utf8(value).map_err(|_| AttributeError::NotUtf8 { attribute: name.to_owned() })?;
    check_value(name, text)?;
    Ok(text)
}
