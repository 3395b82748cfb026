//! CloudEvents in binary mode: attributes in `ce_` headers, data in the value. Decoding checks the
//! headers and copies nothing; attributes are looked up in the record when somebody asks.

use super::attribute::{PREFIX, REQUIRED, check_header, check_name};
use super::error::{AttributeError, DecodeError};
use crate::model::{Record, Shape};

/// Checks the attributes of a record in binary mode.
pub(super) fn check(record: &Record<'_>) -> Result<Shape, DecodeError> {
    let mut present = [false; REQUIRED.len()];
    for header in record.headers() {
        let Some(name) = header.name.strip_prefix(PREFIX) else { continue };
        // Kafka's null means "not set", and the last header of a name counts.
        match header.value {
            Some(value) => check_header(name, value)?,
            None => check_name(name)?,
        }
        if let Some(place) = REQUIRED.iter().position(|required| *required == name) {
            present[place] = header.value.is_some();
        }
    }
    match present.iter().position(|present| !present) {
        Some(place) => Err(AttributeError::Missing { attribute: REQUIRED[place] }.into()),
        None => Ok(Shape::Binary),
    }
}
